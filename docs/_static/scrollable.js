"use strict";
// Code, pictures, tables and equations that are wider than the window scroll by themselves: the keyboard must reach them.
function reachScrollable() {
  for (const box of document.querySelectorAll("article pre, article p:has(> img), article .table-wrapper, article div.math")) {
    const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (scrolls) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

addEventListener("load", reachScrollable);
addEventListener("resize", reachScrollable);
