// Reads requests with Node's llhttp and says in X-Read what it has read.
const http = require("http");
const crypto = require("crypto");

const fields = ["impersonate-user", "impersonate-group", "accept", "content-type", "x-mark"];

const server = http.createServer({ maxHeaderSize: 65536 }, (request, response) => {
  const hash = crypto.createHash("sha256");
  request.on("data", (data) => hash.update(data));
  request.on("end", () => {
    const values = (name) => {
      const found = [];
      for (let at = 0; at < request.rawHeaders.length; at += 2) {
        if (request.rawHeaders[at].toLowerCase() === name) found.push(request.rawHeaders[at + 1]);
      }
      return Buffer.from(found.join(","), "latin1").toString("hex");
    };
    const read = [request.method, request.url, hash.digest("hex"), ...fields.map(values)];
    response.setHeader("X-Read", read.join(" "));
    response.setHeader("Content-Length", "0");
    response.end();
  });
});
// As many fields as there are: without it Node drops those behind the first thousand.
server.maxHeadersCount = 0;
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
