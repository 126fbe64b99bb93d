// A relay as one writes it on @fastify/websocket: rooms of a host and a client, and a host that waits while its client is behind.
// `node relay.cjs PORT`. With WS_NO_BUFFER_UTIL in the environment `ws` masks and unmasks in JavaScript, as it does where bufferutil isn't
// installed. With TLS_CERT and TLS_KEY it speaks TLS. It checks no token and no message: that much less it has to do than ours.
const { readFileSync } = require("node:fs");

const MIB = 2 ** 20;
const MAX_MESSAGE_BYTES = 4 * MIB;
const PAUSE_BYTES = MIB;
const RESUME_BYTES = MIB / 2;

const rooms = new Map();

function join(socket, { role, sessionId }) {
  const room = rooms.get(sessionId) ?? {};
  rooms.set(sessionId, room);
  room[role] = socket;
  const other = role === "host" ? "client" : "host";
  socket.on("message", (data, binary) => {
    const receiver = room[other];
    if (!receiver) return;
    receiver.send(data, { binary }, () => {
      if (socket.isPaused && receiver.bufferedAmount < RESUME_BYTES) socket.resume();
    });
    if (receiver.bufferedAmount > PAUSE_BYTES) socket.pause();
  });
  socket.on("error", () => socket.terminate());
  socket.on("close", () => {
    if (room[role] === socket) delete room[role];
    if (!room.host && !room.client) rooms.delete(sessionId);
  });
  socket.send(JSON.stringify({ type: "relay.welcome", role, sessionId }));
}

function tls({ TLS_CERT, TLS_KEY }) {
  return TLS_CERT ? { https: { cert: readFileSync(TLS_CERT), key: readFileSync(TLS_KEY) } } : {};
}

async function main(port) {
  const app = require("fastify")(tls(process.env));
  await app.register(require("@fastify/websocket"), {
    options: { maxPayload: MAX_MESSAGE_BYTES, perMessageDeflate: false },
  });
  await app.register(async (scope) => {
    scope.get("/stream/relay", { websocket: true }, (socket, request) => join(socket, request.query));
  });
  app.get("/health/ready", async () => ({ ok: true }));
  await app.listen({ port, host: "127.0.0.1" });
}

main(Number(process.argv[2]));
