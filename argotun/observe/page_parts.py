"""Style and script of the status page. What stands in them is hashed for its Content-Security-Policy."""

STYLE = """\
:root{--ink:#1a2027;--soft:#5b6672;--line:#dde2e8;--back:#f6f7f9;--card:#fff;
--ok:#146c2e;--bad:#b3261e;--tint:#fdecea}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--soft:#9aa5b1;--line:#2d353e;--back:#12161a;
--card:#1a2026;--ok:#7bd88f;--bad:#ff8a80;--tint:#33201f}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:14px/1.45 system-ui,sans-serif}
main,footer{max-width:1400px;margin:0 auto;padding:0 16px}
header{display:flex;flex-wrap:wrap;gap:4px 14px;align-items:baseline;padding:18px 0 10px}
h1{font-size:20px;margin:0}
h2{font-size:15px;margin:22px 0 8px}
header p,footer,small,dt{color:var(--soft)}
header p{margin:0}
p{overflow-wrap:anywhere}
strong{padding:2px 10px;border-radius:99px;color:var(--card);background:var(--ok)}
strong.bad{background:var(--bad)}
.troubles{margin:14px 0;padding:10px 12px 10px 30px;overflow-wrap:anywhere;
background:var(--tint);border-left:4px solid var(--bad);border-radius:4px}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:10px;margin:0}
dl div,table,#find input{background:var(--card);border:1px solid var(--line);border-radius:6px}
dl div{padding:8px 12px}
dd{margin:0;font-size:19px;font-variant-numeric:tabular-nums}
table{width:100%;border-collapse:collapse}
th,td{padding:6px 10px;text-align:left;vertical-align:top;font-variant-numeric:tabular-nums;
overflow-wrap:break-word;unicode-bidi:isolate}
.clusters tbody th,.clusters td,td:last-child{overflow-wrap:anywhere}
.clusters tbody th{min-width:9em}
thead th{color:var(--soft);font-weight:500}
tbody{border-top:1px solid var(--line)}
.bad th{color:var(--bad)}
.words td{padding-top:0;color:var(--soft)}
.bad .words td{color:inherit}
small{display:block}
#find{max-width:1400px;margin:14px auto 0;padding:0 16px}
#find input{display:block;font:inherit;color:inherit;padding:6px 10px;width:100%;max-width:320px}
.ways{display:flex;flex-wrap:wrap;gap:4px 16px;color:var(--soft)}
a{color:inherit}
footer{padding-top:14px;padding-bottom:24px}
#stale{color:var(--bad)}
@media(max-width:760px){
th,td{padding:5px 8px}
table{display:block;overflow-x:auto}
.clusters thead,.clusters td:empty,.clusters th:empty{display:none}
.clusters tbody{display:block}
.clusters tr{display:grid;grid-template-columns:1fr 1fr;padding:4px 0}
.clusters th,.clusters td{padding:2px 10px}
.clusters th,.clusters td:nth-child(2){grid-column:1/-1}
.clusters .words{display:block}
.clusters td::before{color:var(--soft)}
.clusters td:nth-child(3)::before{content:"since "}
.clusters td:nth-child(4)::before{content:"round trip "}
.clusters td:nth-child(5)::before{content:"streams "}
.clusters td:nth-child(6)::before{content:"to it "}
.clusters td:nth-child(7)::before{content:"from it "}
.clusters td:nth-child(8)::before{content:"certificate ends "}
.clusters td:nth-child(9)::before{content:"takeovers "}
}
"""

SCRIPT = """\
"use strict";
const main = () => document.querySelector("main");
const stale = document.getElementById("stale");
const find = document.querySelector("#find input");
let heard = new Date();
let asked = 0;
async function show() {
  const mine = ++asked;
  try {
    const answer = await fetch(location.href, {headers: {Accept: "text/html"}, cache: "no-store"});
    if (!answer.ok) throw new Error("it answers " + answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const body = fresh.querySelector("main");
    if (!body) throw new Error("it answers something else");
    if (mine !== asked) return;
    main().replaceWith(body);
    document.title = fresh.title;
    document.querySelector("link").href = fresh.querySelector("link").href;
    heard = new Date();
    stale.textContent = "";
  } catch (error) {
    if (mine !== asked) return;
    stale.textContent = "Not heard of it since " + heard.toLocaleTimeString() + ": " + error.message;
  }
}
async function look() {
  if (!document.hidden && getSelection().isCollapsed) await show();
  setTimeout(look, 5000);
}
if (find) {
  find.addEventListener("input", () => {
    const query = find.value ? "?find=" + encodeURIComponent(find.value) : "";
    history.replaceState(null, "", location.pathname + query);
    show();
  });
}
setTimeout(look, 5000);
"""
