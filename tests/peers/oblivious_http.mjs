// hpke-js and bhttp-js, asked by lines of JSON.
import { createInterface } from "node:readline";
import { AeadId, CipherSuite, KdfId, KemId } from "hpke-js";
import { BHttpDecoder, BHttpEncoder } from "bhttp-js";

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const text = (data) => Buffer.from(data).toString("base64");
const suite = new CipherSuite({
  kem: KemId.DhkemX25519HkdfSha256, kdf: KdfId.HkdfSha256, aead: AeadId.Aes128Gcm,
});

const commands = {
  async open({ privateKey, enc, info, sealed, label, size }) {
    const recipientKey = await suite.importKey("raw", bytes(privateKey).buffer, false);
    const context = await suite.createRecipientContext({ recipientKey, enc: bytes(enc).buffer, info: bytes(info).buffer });
    return {
      message: text(await context.open(bytes(sealed).buffer)),
      secret: text(await context.export(bytes(label).buffer, size)),
    };
  },
  async seal({ publicKey, info, message, label, size }) {
    const recipientPublicKey = await suite.importKey("raw", bytes(publicKey).buffer, true);
    const context = await suite.createSenderContext({ recipientPublicKey, info: bytes(info).buffer });
    return {
      sealed: text(await context.seal(bytes(message).buffer)),
      enc: text(context.enc),
      secret: text(await context.export(bytes(label).buffer, size)),
    };
  },
  async request({ data }) {
    const found = new BHttpDecoder().decodeRequest(bytes(data));
    return {
      method: found.method, url: found.url, headers: Object.fromEntries(found.headers),
      body: text(await found.arrayBuffer()),
    };
  },
  async response({ data }) {
    const found = new BHttpDecoder().decodeResponse(bytes(data));
    return { status: found.status, headers: Object.fromEntries(found.headers), body: text(await found.arrayBuffer()) };
  },
  async encodeRequest({ method, url, headers, body }) {
    const request = new Request(url, { method, headers, body: bytes(body) });
    return { data: text(await new BHttpEncoder().encodeRequest(request)) };
  },
  async encodeResponse({ status, headers, body }) {
    return { data: text(await new BHttpEncoder().encodeResponse(new Response(bytes(body), { status, headers }))) };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...values } = JSON.parse(line);
  try {
    console.log(JSON.stringify(await commands[command](values)));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error.stack ?? error) }));
  }
}
