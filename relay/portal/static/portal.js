"use strict";
// Makes pages more comfortable where scripts run; each page works without it.
(function () {
  const csrf = () => (document.querySelector('input[name="csrf"]') || {}).value || "";

  // Warn before the log-off, and let one press keep the session.
  const box = document.querySelector(".timeout");
  if (box) {
    const idle = Number(box.dataset.seconds), warn = Math.min(Number(box.dataset.warn), idle / 2);
    let since = Date.now();
    const stay = box.querySelector("[data-stay]");
    const look = () => {
      const left = idle - (Date.now() - since) / 1000;
      if (left <= 0) { document.dispatchEvent(new Event("portal-leave")); location.assign("/sign-in?expired=1&next=" + encodeURIComponent(location.pathname)); return; }
      const show = left <= warn;
      if (show && box.hidden) { box.hidden = false; stay.focus(); }
      window.setTimeout(look, Math.max(250, (show ? left : left - warn) * 1000));
    };
    const alive = () => { since = Date.now(); box.hidden = true; };
    // Who reads in one window is not away in another: the session is the same.
    const windows = "BroadcastChannel" in window ? new BroadcastChannel("portal-alive") : null;
    if (windows) {
      windows.addEventListener("message", alive);
      windows.postMessage("");
    }
    document.addEventListener("portal-alive", () => { alive(); if (windows) windows.postMessage(""); });
    stay.addEventListener("click", async () => {
      const answer = await fetch("/account/alive", { method: "POST", headers: { "X-CSRF-Token": csrf() }, redirect: "manual" }).catch(() => null);
      if (answer && answer.ok) document.dispatchEvent(new Event("portal-alive"));
    });
    look();
  }

  // Give the message the height that it needs. The frame runs no script; its height is read from here.
  const frame = document.querySelector(".letter-frame");
  if (frame) {
    const fit = () => {
      const page = frame.contentDocument;
      if (!page || !page.documentElement) return;
      frame.style.height = "0"; // a document is never lower than its window: let it show its own height
      frame.style.height = Math.min(Math.max(page.documentElement.scrollHeight + 4, 120), 20000) + "px";
    };
    frame.addEventListener("load", fit);
    window.addEventListener("resize", fit);
    fit();
  }

  // One press is enough. A second one would break off the answer to the first, and with it the cookie that it brings: a
  // code is right once.
  const AGAIN = 10000;
  let pressed = new WeakMap();
  window.addEventListener("submit", (event) => {
    if (event.defaultPrevented) return;
    if (Date.now() - (pressed.get(event.target) || 0) < AGAIN) event.preventDefault();
    else pressed.set(event.target, Date.now());
  });
  window.addEventListener("pageshow", () => { pressed = new WeakMap(); });

  // Remember until the form is seen again that what was written there has been sent (compose.js).
  const sent = document.querySelector("[data-sent]");
  if (sent) window.sessionStorage.setItem("sent " + sent.dataset.sent, "1");
})();
