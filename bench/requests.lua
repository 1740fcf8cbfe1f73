-- Sends the records of a file as they are, one after the other, and prints what came of them as one line of JSON.
-- wrk -s requests.lua URL -- FILE BYTES_A_RECORD RECORDS again|once RATE (a second, random spacing; 0: as fast as can be)

local ffi = require("ffi")
ffi.cdef("typedef struct { long seconds, nanoseconds; } moment; int clock_gettime(int, moment *);")

local file, bytes, records, again
local looked, sent = false, 0

-- One thread: its stretch of the file is the whole of it.
function setup(thread)
  assert(not started, "requests.lua is for one thread")
  started = true
end

function init(arguments)
  file = assert(io.open(arguments[1], "rb"))
  bytes, records, again = tonumber(arguments[2]), tonumber(arguments[3]), arguments[4] == "again"
  local rate = tonumber(arguments[5])
  if rate > 0 then
    delay = spacing(rate)
  end
end

function request()
  if not looked then
    -- wrk looks at one request before it begins, and does not send it.
    looked = true
    local first = file:read(bytes)
    file:seek("set")
    return first
  end
  if sent == records then
    if not again then
      io.stderr:write("the requests ran out\n")
      os.exit(3)
    end
    file:seek("set")
    sent = 0
  end
  sent = sent + 1
  return file:read(bytes)
end

-- All connections share one timetable of random arrivals; each takes the next place in it, and is late at most.
function spacing(rate)
  local clock = ffi.new("moment")
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
