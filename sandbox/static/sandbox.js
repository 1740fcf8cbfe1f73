/* Improves the pages. Without it every form still works. */
"use strict";

const SECOND = 1000;
const BRANDS = [
  ["Visa", /^4/, [13, 16, 19], 3],
  ["Mastercard", /^(5[1-5]|2(22[1-9]|2[3-9]|[3-6]|7[01]|720))/, [16], 3],
  ["Mir", /^220[0-4]/, [16, 17, 18, 19], 3],
  ["American Express", /^3[47]/, [15], 4],
  ["JCB", /^35(2[89]|[3-8])/, [16, 17, 18, 19], 3],
  ["Diners Club", /^3(0[0-5]|095|[689])/, [14, 15, 16, 17, 18, 19], 3],
  ["UnionPay", /^62/, [16, 17, 18, 19], 3],
  ["Discover", /^6(011|4[4-9]|5)/, [16, 17, 18, 19], 3],
  ["Maestro", /^(5[06-8]|6)/, [12, 13, 14, 15, 16, 17, 18, 19], 3],
];
const UNKNOWN = ["", /^/, [12, 13, 14, 15, 16, 17, 18, 19], 0];

const digitsOf = (text) => text.replace(/\D/g, "");
const brandOf = (number) => BRANDS.find(([, prefix]) => prefix.test(number)) || UNKNOWN;

function groups(number) {
  const shape = /^3[47]/.test(number) ? [4, 6, 5] : [4, 4, 4, 4, 3];
  const parts = [];
  for (let at = 0, i = 0; at < number.length; at += shape[i], i += 1) parts.push(number.slice(at, at + shape[i]));
  return parts.join(" ");
}

function passesLuhn(number) {
  const sum = [...number].reverse().reduce((total, digit, place) => {
    const value = Number(digit) * (place % 2 ? 2 : 1);
    return total + (value > 9 ? value - 9 : value);
  }, 0);
  return sum % 10 === 0;
}

/* Formats the typed text and keeps the caret behind the same digit. */
function reshape(input, shape) {
  const before = digitsOf(input.value.slice(0, input.selectionStart)).length;
  const atEnd = input.selectionStart === input.value.length;
  const text = shape(digitsOf(input.value));
  if (text === input.value) return;
  input.value = text;
  let caret = 0;
  for (let seen = 0; caret < text.length && seen < before; caret += 1) if (/\d/.test(text[caret])) seen += 1;
  if (document.activeElement === input) input.setSelectionRange(atEnd ? text.length : caret, atEnd ? text.length : caret);
}

function expiryShape(digits, deleting) {
  let text = /^[2-9]/.test(digits) ? `0${digits}` : digits;
  // A browser may fill in a year with four digits.
  if (/^\d{2}20\d{2}$/.test(text)) text = text.slice(0, 2) + text.slice(4);
  text = text.slice(0, 4);
  return text.length > 2 || (text.length === 2 && !deleting) ? `${text.slice(0, 2)}/${text.slice(2)}` : text;
}

function complain(input, text) {
  const place = document.getElementById(`${input.id}-problem`);
  if (place.textContent !== text) place.textContent = text;
  if (text) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
  return !text;
}

/* Checks each field when it loses focus, a wrong field on each key, and all fields before submitting. */
function validate(form, checks) {
  form.noValidate = true;
  const check = (input) => complain(input, checks[input.id](input.value));
  const concerned = () => Object.keys(checks).map((id) => document.getElementById(id)).filter((input) => input.offsetParent);
  for (const id of Object.keys(checks)) {
    const input = document.getElementById(id);
    input.addEventListener("blur", (event) => {
      // Not if the submit button was pressed: a message would move it, and it checks all fields itself.
      const pressed = event.relatedTarget && event.relatedTarget.type === "submit";
      if (input.value && !pressed) check(input);
    });
    input.addEventListener("input", () => {
      // A problem that the server found is not checked again while the payer types.
      if (document.getElementById(`${id}-problem`).textContent) check(input);
      else input.removeAttribute("aria-invalid");
    });
  }
  form.addEventListener("submit", (event) => {
    const wrong = concerned().filter((input) => !check(input));
    if (!wrong.length) return;
    event.preventDefault();
    wrong[0].focus();
  });
}

function cardForm(form) {
  const messages = form.dataset;
  const field = (id) => document.getElementById(id);
  const tag = field("brand");
  const odd = messages.odd.split(" ");
  const number = field("card_number");
  const show = () => {
    reshape(number, (digits) => groups(digits.slice(0, 19)));
    const [name] = brandOf(digitsOf(number.value));
    if (tag.textContent !== name) tag.textContent = name;
  };
  number.addEventListener("input", show);
  field("expiry").addEventListener("input", (event) => {
    const deleting = (event.inputType || "").startsWith("delete");
    reshape(event.target, (digits) => expiryShape(digits, deleting));
  });
  field("cvv").addEventListener("input", (event) => reshape(event.target, (digits) => digits.slice(0, 4)));
  validate(form, {
    card_number: (text) => {
      const digits = digitsOf(text);
      const fits = brandOf(digits)[2].includes(digits.length) && passesLuhn(digits);
      return fits || odd.includes(digits) ? "" : messages.number;
    },
    expiry: (text) => {
      const [month, year] = text.split("/").map(Number);
      if (!/^\d\d\/\d\d$/.test(text) || month < 1 || month > 12) return messages.expiry;
      return new Date(2000 + year, month) > new Date() ? "" : messages.past;
    },
    cvv: (text) => {
      const wanted = brandOf(digitsOf(number.value))[3];
      return (wanted ? text.length === wanted : text.length === 3 || text.length === 4) ? "" : messages.cvv;
    },
    email: (text) => (/^[^\s@]+@[^\s@]+$/.test(text.trim()) ? "" : messages.email),
  });
  for (const button of document.querySelectorAll("[data-fill]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const values = { card_number: button.dataset.fill, expiry: `12/${String((new Date().getFullYear() + 3) % 100)}`, cvv: "123" };
      values.cvv = brandOf(digitsOf(button.dataset.fill))[3] === 4 ? "1234" : "123";
      const other = form.querySelector('[name="saved_card_id"][value=""]');
      if (other) other.checked = true;
      for (const [id, value] of Object.entries(values)) {
        field(id).value = value;
        complain(field(id), "");
      }
      show();
      (field("email").value ? form.querySelector("button.main") : field("email")).focus();
    });
  }
  show();
}

function otpForm(form) {
  const input = document.getElementById("otp_code");
  input.addEventListener("input", () => reshape(input, (digits) => digits.slice(0, input.maxLength)));
  validate(form, { otp_code: (text) => (text.length === input.maxLength ? "" : form.dataset.short) });
}

/* A form is sent once: another press before the answer has no effect. */
function once(form) {
  form.addEventListener("submit", (event) => {
    if (event.defaultPrevented) return;
    const button = form.querySelector("button:not([type=button])");
    if (form.dataset.sent || button.getAttribute("aria-disabled") === "true") {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
    button.setAttribute("aria-disabled", "true");
    button.setAttribute("aria-busy", "true");
    const place = form.querySelector("[data-busy-status]");
    if (place) place.textContent = form.dataset.busy;
  });
}

const formatTime = (seconds) => `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;

/* Counts down with a monotonic clock, because the time of a computer is often wrong. */
function every(seconds, tick) {
  const end = performance.now() + seconds * SECOND;
  const step = () => {
    const left = Math.max(0, Math.ceil((end - performance.now()) / SECOND));
    if (tick(left) !== false && left > 0) setTimeout(step, ((end - performance.now()) % SECOND) + 20);
  };
  step();
}

function clock(place) {
  const [digits, status] = [place.querySelector(".digits"), place.querySelector("[role=status]")];
  let before = Infinity;
  digits.hidden = false;
  every(Number(place.dataset.seconds), (left) => {
    digits.textContent = formatTime(left);
    place.classList.toggle("soon", left <= 60);
    // Screen readers are told only at five minutes, at one minute, and at the end.
    const passed = (mark) => before !== Infinity && before > mark && left <= mark;
    if (passed(300) || passed(60)) status.textContent = place.dataset.soon.replace("%", formatTime(left));
    before = left;
    if (left > 0) return;
    status.textContent = place.dataset.over;
    setTimeout(() => location.replace(place.dataset.then), 1.5 * SECOND);
  });
}

function wait(button) {
  const seconds = Number(button.dataset.wait);
  if (!(seconds > 0)) return;
  const label = button.querySelector("span");
  const text = label.textContent;
  button.setAttribute("aria-disabled", "true");
  every(seconds, (left) => {
    label.textContent = left ? button.dataset.waitText.replace("%", left) : text;
    if (!left) button.removeAttribute("aria-disabled");
  });
}

function copying(button) {
  if (!navigator.clipboard) return;
  button.hidden = false;
  const text = button.textContent;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = text; }, 2 * SECOND);
  });
}

const each = (selector, work) => document.querySelectorAll(selector).forEach((place) => work(place));
each("[data-card]", cardForm);
each("[data-otp]", otpForm);
each("[data-once]", once);
each("[data-seconds]", clock);
each("[data-wait]", wait);
each("[data-copy]", copying);
each("[data-refresh]", (place) => setTimeout(() => location.replace(place.dataset.refresh), 3 * SECOND));

/* The back button loads the current page, never a form from before the payment. */
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
