"use strict";
(function () {
  var page = JSON.parse(document.getElementById("contents").textContent), trials = page.trials, store = "rvc-lora-abx-" + page.id;
  var root = document.documentElement, answers = [], shown = 0, played = {}, kept = true;
  function by(id) { return document.getElementById(id); }
  function show(id, visible) { by(id).hidden = !visible; }
  function load() {
    try {
      var saved = JSON.parse(window.localStorage.getItem(store) || "[]");
      if (Array.isArray(saved)) answers = trials.map(function (_, place) { return saved[place] === "a" || saved[place] === "b" ? saved[place] : null; });
    } catch (error) { kept = false; }
    if (answers.length !== trials.length) answers = trials.map(function () { return null; });
  }
  function save() {
    try { window.localStorage.setItem(store, JSON.stringify(answers)); } catch (error) { kept = false; }
    show("lost", !kept);
  }
  function stop() {
    Array.prototype.forEach.call(document.querySelectorAll("audio"), function (sound) { sound.pause(); sound.currentTime = 0; });
    ["x", "a", "b"].forEach(function (name) { by("play-" + name).classList.remove("playing"); });
  }
  function play(name) {
    if (shown >= trials.length) return;
    stop();
    var sound = by(trials[shown][name]);
    by("play-" + name).classList.add("playing");
    sound.onended = function () { by("play-" + name).classList.remove("playing"); };
    var started = sound.play();
    if (started && started.catch) started.catch(function () { by("play-" + name).classList.remove("playing"); });
    played[name] = true;
    ready();
  }
  function ready() {
    var all = played.x && played.a && played.b;
    by("choose-a").disabled = by("choose-b").disabled = !all;
    show("listen-first", !all);
  }
  function go(place) {
    stop();
    shown = Math.max(0, Math.min(place, trials.length));
    played = shown < trials.length && answers[shown] ? { x: true, a: true, b: true } : {};
    draw();
  }
  function answer(which) {
    if (shown >= trials.length || !(played.x && played.a && played.b)) return;
    answers[shown] = which;
    save();
    go(shown + 1);
  }
  function wilson(chosen, count) {
    if (count === 0) return [0.5, 0, 1];
    var share = chosen / count, weight = page.z * page.z / count, middle = (share + weight / 2) / (1 + weight);
    var half = page.z * Math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight);
    return [share, Math.max(0, middle - half), Math.min(1, middle + half)];
  }
  function results() {
    var pairs = {}, order = [];
    trials.forEach(function (trial, place) {
      if (!answers[place]) return;
      var names = [trial.voice_a, trial.voice_b].sort(), key = JSON.stringify(names);
      if (!pairs[key]) { pairs[key] = { voices: names, answers: 0, chosen: 0 }; order.push(key); }
      pairs[key].answers += 1;
      if (trial["voice_" + answers[place]] === names[0]) pairs[key].chosen += 1;
    });
    return order.map(function (key) {
      var pair = pairs[key], interval = wilson(pair.chosen, pair.answers);
      return { voices: pair.voices, answers: pair.answers, chosen_first: pair.chosen, share: interval[0], low: interval[1], high: interval[2] };
    });
  }
  function inEach(name, voice) {
    var whole = document.createElement("span");
    page.languages.forEach(function (language) {
      var part = document.createElement("span");
      part.lang = language.code;
      part.textContent = language[name].replace("{voice}", function () { return voice; });
      whole.appendChild(part);
    });
    return whole;
  }
  function verdict(one) {
    if (one.low > 0.5) return inEach("nearer", one.voices[0]);
    if (one.high < 0.5) return inEach("nearer", one.voices[1]);
    return inEach("neither", "");
  }
  function draw() {
    var done = answers.filter(Boolean).length, over = shown >= trials.length;
    by("bar").style.width = 100 * done / trials.length + "%";
    by("count").textContent = Math.min(shown + 1, trials.length) + " / " + trials.length;
    show("trial", !over);
    show("results", over);
    by("back").disabled = shown === 0;
    show("lost", !kept);
    if (!over) {
      ["a", "b"].forEach(function (which) { by("choose-" + which).classList.toggle("chosen", answers[shown] === which); });
      ready();
      return;
    }
    var list = by("pairs");
    while (list.firstChild) list.removeChild(list.firstChild);
    results().forEach(function (one) {
      var item = document.createElement("li"), head = document.createElement("b"), numbers = document.createElement("p");
      head.textContent = one.voices[0] + " : " + one.voices[1];
      numbers.className = "numbers";
      numbers.textContent = one.chosen_first + " : " + (one.answers - one.chosen_first) + " — " + (100 * one.share).toFixed(0) + "% (" +
        (100 * one.low).toFixed(1) + "% – " + (100 * one.high).toFixed(1) + "%)";
      item.appendChild(head);
      item.appendChild(numbers);
      item.appendChild(verdict(one));
      list.appendChild(item);
    });
    show("unfinished", done < trials.length);
  }
  function download() {
    var report = { format: page.format, format_version: page.format_version, id: page.id, seed: page.seed, interval: "Wilson, 95%", pairs: results(),
      answers: trials.map(function (trial, place) {
        var which = answers[place];
        return { clip: trial.clip, voice_a: trial.voice_a, voice_b: trial.voice_b, answer: which, chosen: which ? trial["voice_" + which] : null };
      }) };
    var link = document.createElement("a"), address = URL.createObjectURL(new Blob([JSON.stringify(report, null, 1)], { type: "application/json" }));
    link.href = address;
    link.download = "abx-" + page.id + ".json";
    document.body.appendChild(link);
    link.click();
    document.body.removeChild(link);
    setTimeout(function () { URL.revokeObjectURL(address); }, 10000);
  }
  var languages = page.languages;
  function at() { return languages.map(function (language) { return language.shown; }).indexOf(root.dataset.shown); }
  function speak() { root.lang = languages[at()].code; }
  by("language").addEventListener("click", function () {
    root.dataset.shown = languages[(at() + 1) % languages.length].shown;
    speak();
  });
  ["x", "a", "b"].forEach(function (name) { by("play-" + name).addEventListener("click", function () { play(name); }); });
  by("choose-a").addEventListener("click", function () { answer("a"); });
  by("choose-b").addEventListener("click", function () { answer("b"); });
  by("back").addEventListener("click", function () { go(shown - 1); });
  by("again").addEventListener("click", function () { answers = trials.map(function () { return null; }); save(); go(0); });
  by("review").addEventListener("click", function () { go(answers.indexOf(null) < 0 ? 0 : answers.indexOf(null)); });
  by("download").addEventListener("click", download);
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    var key = event.key.toLowerCase(), plays = { x: "x", a: "a", b: "b" };
    if (plays[key]) play(plays[key]);
    else if (key === "arrowleft") answer("a");
    else if (key === "arrowright") answer("b");
    else if (key === "backspace") go(shown - 1);
    else return;
    event.preventDefault();
  });
  load();
  speak();
  var first = answers.indexOf(null);
  go(first < 0 ? trials.length : first);
})();
