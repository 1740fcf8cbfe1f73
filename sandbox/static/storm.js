/* Follows a storm: asks how far it has come, and loads the page again when it is over. Without it, "Look again" does. */
"use strict";

const storm = document.getElementById("storm");

async function look() {
  try {
    const now = await (await fetch(storm.dataset.progress)).json();
    const [bar, stage, counts] = ["progress", "[data-stage]", "[data-counts]"].map((what) => storm.querySelector(what));
    bar.max = Math.max(1, now.steps);
    bar.value = now.done;
    if (stage.textContent !== now.stage) stage.textContent = now.stage;
    counts.textContent = Object.entries(now.counts).map(([name, count]) => `${name} ${count}`).join(", ");
    if (!now.on) {
      location.replace(location.pathname);
      return;
    }
  } catch {
    /* The sandbox may be restarting; the next look tells. */
  }
  setTimeout(look, 500);
}

if (storm && "on" in storm.dataset) look();
