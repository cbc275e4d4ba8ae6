// the theme does not colour the arrowheads of this version of Mermaid, so they would be dark on a dark page
if (window.mermaid) {
  const initialize = mermaid.initialize;
  const arrows = "marker path, marker circle { fill: var(--md-default-fg-color) !important }";
  mermaid.initialize = (config) => initialize({ ...config, themeCSS: `${config.themeCSS} ${arrows}` });
}
// names and keyboard access for parts of the theme that have none
document$.subscribe(() => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  // a page of the reference has a class named Header, and so a second navigation of this name
  document.querySelector(".md-header__inner")?.setAttribute("aria-label", "Top of the site");
  document.querySelectorAll(".md-code__nav").forEach((nav, index) => nav.setAttribute("aria-label", `Code ${index + 1}`));
  const regions = [...document.querySelectorAll(".md-typeset__scrollwrap, pre > code")];
  document.querySelectorAll('img[src*="plots/"]').forEach((plot) => regions.push(plot.parentElement));
  regions.forEach((region) => region.setAttribute("tabindex", "0"));
});
