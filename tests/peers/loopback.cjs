// Loaded before a server that would listen on every interface: it listens on 127.0.0.1, and says on stdout where.
const net = require("node:net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  this.once("listening", () => console.log(`listening on http://127.0.0.1:${this.address().port}/`));
  return listen.call(this, { port: Number(port), host: "127.0.0.1" }, ...rest);
};
