// Keeps the page up to date: when the server says that something has changed, the
// page is fetched again and its live part replaced. Without this script the page
// is as it was loaded.
"use strict";
(() => {
  const say = (text) => {
    const link = document.getElementById("link");
    link.textContent = text;
    link.hidden = false;
  };
  const addCopyButtons = () => {
    for (const block of document.querySelectorAll("pre.copy")) {
      const button = document.createElement("button");
      button.className = "quiet copy-button";
      button.textContent = "Copy";
      button.addEventListener("click", () => {
        navigator.clipboard.writeText(block.textContent).then(() => { button.textContent = "Copied"; });
      });
      block.before(button);
    }
  };
  addCopyButtons();
  const address = document.body.dataset.stream;
  if (!address) return;
  let busy = false, again = false;
  const refresh = async () => {
    if (busy) { again = true; return; }
    if (document.hidden || String(document.getSelection())) { again = true; return; }
    busy = true; again = false;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (answer.redirected) { location.reload(); return; } // to sign in again
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
        const old = document.getElementById("live");
        if (fresh && old) { old.replaceWith(fresh); addCopyButtons(); }
      }
    } catch { /* the stream says when the server is back */ }
    busy = false;
    if (again) setTimeout(refresh, 1000);
  };
  const stream = new EventSource(address);
  stream.addEventListener("open", () => { say("live"); refresh(); });
  stream.addEventListener("changed", refresh);
  stream.addEventListener("error", () => say("not connected"));
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  setInterval(refresh, 30000);
})();
