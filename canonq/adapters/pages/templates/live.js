"use strict";
(() => {
  const part = (page, name) => page.querySelector(name);
  const opened = () => [...document.querySelectorAll("details")].map((one) => one.open);

  // Take the page again, and put its parts in the place of the old ones: what is open, focused and scrolled stays so.
  let busy = false;
  let wanted = false;
  async function renew() {
    if (busy || document.hidden) {
      wanted = true;
      return;
    }
    busy = true;
    wanted = false;
    try {
      const answer = await fetch(location.pathname, { cache: "no-store" });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const open = opened();
      const focused = document.activeElement && document.activeElement.getAttribute("href");
      const before = part(document, ".lead") && part(document, ".lead").textContent;
      for (const name of ["header", "main", "footer"]) {
        const [old, fresh] = [part(document, name), part(page, name)];
        if (old && fresh && old.innerHTML !== fresh.innerHTML) old.replaceWith(document.adoptNode(fresh));
      }
      document.title = page.title;
      document.querySelectorAll("details").forEach((one, index) => {
        if (index in open) one.open = open[index];
      });
      if (focused && document.activeElement === document.body) {
        const link = [...document.links].find((one) => one.getAttribute("href") === focused);
        if (link) link.focus({ preventScroll: true });
      }
      const after = part(document, ".lead") && part(document, ".lead").textContent;
      if (after && after !== before) part(document, "#news").textContent = after;
    } catch (error) {
      // The server is away; the next event brings the page.
    } finally {
      busy = false;
      if (wanted) setTimeout(renew, 1000);
    }
  }
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && wanted) renew();
  });

  const logs = part(document, "[data-follow]");
  if (logs) {
    const stream = new EventSource(logs.dataset.follow);
    stream.onmessage = (event) => {
      const told = JSON.parse(event.data);
      const shown = [...document.querySelectorAll("pre")].find((one) => one.dataset.log === told.log);
      if (!shown) {
        location.reload();
        return;
      }
      const last = shown.scrollTop + shown.clientHeight >= shown.scrollHeight - 4;
      shown.textContent = told.text;
      if (last) shown.scrollTop = shown.scrollHeight;
    };
    stream.addEventListener("over", () => stream.close());
    return;
  }
  const stream = new EventSource("/events");
  let first = true;
  stream.addEventListener("changed", () => {
    if (!first) renew();
    first = false;
  });
})();
