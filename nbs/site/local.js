// Stands before the built-in renderer's own script, for a site that is opened from the disk.
(function () {
  "use strict";
  var root = document.documentElement, fetched = window.fetch;

  // A browser fetches nothing from the disk, but loads scripts from there: the index of the search is beside its JSON as one.
  function asScript(url) {
    return new Promise(function (resolve, reject) {
      var script = document.createElement("script");
      script.src = url + ".js";
      script.onload = function () { resolve({ ok: true, json: function () { return Promise.resolve(window.searchIndex); } }); };
      script.onerror = reject;
      document.head.appendChild(script);
    });
  }
  if (location.protocol === "file:") window.fetch = function (url) {
    return /(^|\/)search\.json$/.test(String(url)) ? asScript(url) : fetched.apply(this, arguments);
  };

  // The switch changes `data-scheme`; our style goes by the class, which else is set when a page is loaded only.
  new MutationObserver(function () {
    var themes = document.querySelectorAll("link.quarto-color-scheme"), on = themes[root.dataset.scheme === "alternate" ? 1 : 0];
    root.classList.toggle("quarto-dark", !!on && on.dataset.mode === "dark");
  }).observe(root, { attributes: true, attributeFilter: ["data-scheme"] });
})();
