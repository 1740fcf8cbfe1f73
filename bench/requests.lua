-- Sends the records of a file unchanged, one after the other, and prints a summary as one line of JSON.
-- wrk -s requests.lua URL -- FILE RECORD_BYTES RECORDS repeat|once RATE
-- RATE is requests per second with random spacing. 0 means as fast as possible.

local ffi = require("ffi")
ffi.cdef("typedef struct { long seconds, nanoseconds; } timespec_t; int clock_gettime(int, timespec_t *);")

local file, record_bytes, records, repeatable
local previewed, sent = false, 0

-- One thread reads the whole file.
function setup(thread)
  assert(not started, "requests.lua is for one thread")
  started = true
end

function init(arguments)
  file = assert(io.open(arguments[1], "rb"))
  record_bytes, records, repeatable = tonumber(arguments[2]), tonumber(arguments[3]), arguments[4] == "repeat"
  local rate = tonumber(arguments[5])
  if rate > 0 then
    delay = random_delay(rate)
  end
end

function request()
  if not previewed then
    -- wrk calls this once before it begins, and does not send that request.
    previewed = true
    local first = file:read(record_bytes)
    file:seek("set")
    return first
  end
  if sent == records then
    if not repeatable then
      io.stderr:write("the requests ran out\n")
      os.exit(3)
    end
    file:seek("set")
    sent = 0
  end
  sent = sent + 1
  return file:read(record_bytes)
end

-- All connections share one Poisson timetable. Each takes the next arrival from it, and may send late but never early.
function random_delay(rate)
  local clock = ffi.new("timespec_t")
  local function now()
    ffi.C.clock_gettime(1, clock)
    return tonumber(clock.seconds) * 1000 + tonumber(clock.nanoseconds) / 1e6
  end
  local arrival
  return function()
    arrival = (arrival or now()) - math.log(1 - math.random()) * 1000 / rate
    return math.floor(math.max(0, arrival - now()) + 0.5)
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"answers": %d, "microseconds": %d, "median": %d, "p99": %d, ' ..
    '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
