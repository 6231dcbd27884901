"use strict";
// Keeps what is being written, and brings files over a weak connection piece by piece. The page works without it.
(function () {
  const form = document.querySelector("form.compose");
  if (!form) return;
  const token = form.querySelector('input[name="csrf"]').value;
  const here = form.getAttribute("action"); // form.action would be its buttons of that name
  const told = form.querySelector(".autosave"), progress = form.querySelector(".progress");
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (all, name) => (name in values ? values[name] : all));
  const rest = (seconds) => new Promise((done) => window.setTimeout(done, seconds * 1000));

  // --- words

  let written = false, timer = 0;
  const save = async () => {
    window.clearTimeout(timer);
    if (!written) return true;
    written = false;
    const data = new FormData(form);
    data.delete("file");
    data.set("action", "autosave");
    const answer = await fetch(here, { method: "POST", body: data, redirect: "manual" }).catch(() => null);
    if (answer && answer.status === 409) { // it was sent, or thrown away, from this very page
      told.textContent = (await answer.json()).gone;
      return true;
    }
    if (answer && answer.ok) {
      const known = await answer.json();
      told.textContent = known.note || fill(form.dataset.saved, { time: known.saved });
      document.dispatchEvent(new Event("portal-alive"));
      return true;
    }
    written = true;
    told.textContent = form.dataset.unsaved;
    timer = window.setTimeout(save, 5000);
    return false;
  };
  form.addEventListener("input", (event) => {
    if (event.target.name !== "text" && event.target.name !== "to") return;
    written = true;
    window.clearTimeout(timer);
    timer = window.setTimeout(save, 1500);
  });
  form.addEventListener("submit", () => { window.clearTimeout(timer); written = false; }); // the form brings the words
  document.addEventListener("visibilitychange", () => { if (document.hidden) save(); });
  document.addEventListener("portal-leave", save);

  // What was sent is no draft any more. A browser that goes back puts the words in again: they would be sent twice.
  window.addEventListener("pageshow", (event) => {
    const mark = "sent " + here;
    if (!window.sessionStorage.getItem(mark)) return;
    window.sessionStorage.removeItem(mark);
    if (event.persisted) { location.reload(); return; }
    for (const field of form.querySelectorAll("textarea, input[name='to']")) field.value = field.defaultValue;
  });

  // --- files

  const PIECE = 256 * 1024;
  const ask = async (query, body) => {
    const url = form.dataset.upload + "?" + new URLSearchParams({ kind: form.dataset.kind, ...query });
    const answer = await fetch(url, { method: "POST", body, headers: { "X-CSRF-Token": token }, redirect: "manual" });
    if (answer.ok) return answer.json();
    if (answer.status >= 500 || answer.status === 408 || answer.status === 429) throw new Error("later");
    const known = await answer.json().catch(() => ({}));
    throw Object.assign(new Error("refused"), { problem: known.problem || form.dataset.unsaved });
  };
  const bring = async (file) => {
    let known = null, at = 0, pause = 1;
    while (!known || at < file.size) {
      try {
        if (!known) known = await ask({ name: file.name, type: file.type, size: file.size });
        else known = await ask({ upload: known.upload, start: at }, file.slice(at, at + PIECE));
        at = known.received;
        pause = 1;
        const percent = file.size ? Math.floor((100 * at) / file.size) : 100;
        progress.textContent = fill(form.dataset.uploading, { name: file.name, percent });
      } catch (error) {
        if (error.problem) { progress.textContent = error.problem; return false; }
        progress.textContent = fill(form.dataset.paused, { name: file.name });
        await rest(pause);
        pause = Math.min(30, pause * 2);
      }
    }
    return true;
  };
  const input = form.querySelector('input[type="file"]');
  const add = form.querySelector('button[value="add"]');
  if (add) add.hidden = true; // a file is brought as soon as it is chosen
  if (input) input.addEventListener("change", async () => {
    const file = input.files[0];
    if (!file) return;
    written = true;
    await save();
    if (await bring(file)) {
      input.value = "";
      while (!(await save())) await rest(2);
      location.replace(here + "#files");
      location.reload();
    } else input.value = "";
  });
})();
