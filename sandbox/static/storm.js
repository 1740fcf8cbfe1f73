/* Polls the progress of a storm and reloads the page at its end. Without it there is a link to reload. */
"use strict";

const storm = document.getElementById("storm");

async function poll() {
  try {
    const now = await (await fetch(storm.dataset.progress)).json();
    const [bar, phase, counts] = ["progress", "[data-phase]", "[data-counts]"].map((what) => storm.querySelector(what));
    bar.max = Math.max(1, now.steps);
    bar.value = now.done;
    if (phase.textContent !== now.phase_text) phase.textContent = now.phase_text;
    counts.textContent = now.counts_text;
    if (!now.on) {
      location.replace(location.pathname);
      return;
    }
  } catch {
    /* The sandbox may be restarting. */
  }
  setTimeout(poll, 500);
}

if (storm && "on" in storm.dataset) poll();
