// names for parts of the theme that have none, so that a screen reader can tell them apart
document$.subscribe(() => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  document.querySelectorAll(".md-code__nav").forEach((nav, index) => nav.setAttribute("aria-label", `Code ${index + 1}`));
  document.querySelectorAll(".md-typeset__scrollwrap, pre > code").forEach((region) => region.setAttribute("tabindex", "0"));
});
