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

  // The built-in search forgives so much that a name finds pages without it. Here every word must be there; where it stands, and on what
  // kind of page, says what comes first: a claim by its number, pairs, pages about models, then chapters.
  function Search(index) {
    this.index = index.map(function (e) { return { item: e, title: plain(e.title), section: plain(e.section), text: plain(e.text) }; });
  }
  function plain(text) { return " " + String(text || "").toLowerCase().normalize("NFKC").replace(/\bl(\d+)\s*h(\d+)\b/g, "l$1h$2") + " "; }
  function kind(href) { return /pair-/.test(href) ? 3 : /\/?(\d|tutorial)[^/]*\.html/.test(href) ? 0 : 2; }
  Search.prototype.search = function (query, options) {
    var asked = plain(query).trim(), words = asked.split(/\s+/).filter(Boolean);
    return this.index.map(function (e, i) {
      var score = 0;
      for (var k = 0; k < words.length; k++) {
        var w = words[k], here = (e.title.indexOf(w) >= 0 ? 6 : 0) + (e.section.indexOf(w) >= 0 ? 5 : 0) + (e.text.indexOf(w) >= 0 ? 1 : 0);
        if (!here) return null;
        score += here;
      }
      if ((e.title + e.section).indexOf(asked) >= 0) score += 6;
      if (e.section.trim().indexOf(asked + ":") === 0) score += 20;
      return { item: e.item, score: score + kind(e.item.href), at: i };
    }).filter(Boolean).sort(function (a, b) { return b.score - a.score || a.at - b.at; }).slice(0, (options || {}).limit || 20);
  };
  Object.defineProperty(window, "Fuse", { get: function () { return Search; }, set: function () {} });

  // The switch changes `data-scheme`; our style goes by the class, which else is set when a page is loaded only.
  new MutationObserver(function () {
    var themes = document.querySelectorAll("link.quarto-color-scheme"), on = themes[root.dataset.scheme === "alternate" ? 1 : 0];
    root.classList.toggle("quarto-dark", !!on && on.dataset.mode === "dark");
  }).observe(root, { attributes: true, attributeFilter: ["data-scheme"] });
})();
