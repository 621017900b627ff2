// Issuer, origin and client of @cloudflare/privacypass-ts, asked by lines of JSON.
import { createInterface } from "node:readline";
import {
  AuthorizationHeader, TokenChallenge, TOKEN_TYPES, publicVerif, WWWAuthenticateHeader,
} from "@cloudflare/privacypass-ts";

const { BlindRSAMode, BLIND_RSA, Client, Issuer, Origin, TokenRequest, getPublicKeyBytes } = publicVerif;
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const text = (data) => Buffer.from(data).toString("base64");
const SPKI_RSA = { name: "RSA-PSS", hash: "SHA-384" };
let client, issuer, keys;

const commands = {
  // The client begins: from the issuer's key and a challenge to a request.
  async request({ key, challenge }) {
    client = new Client(BlindRSAMode.PSS);
    const request = await client.createTokenRequest(TokenChallenge.deserialize(bytes(challenge)), bytes(key));
    return { request: text(request.serialize()) };
  },
  async finish({ response }) {
    const token = await client.finalize(client.deserializeTokenResponse(bytes(response)));
    return { token: text(token.serialize()), header: new AuthorizationHeader(token).toString() };
  },
  async generate() {
    keys = await Issuer.generateKey(BlindRSAMode.PSS, {
      modulusLength: 2048, publicExponent: Uint8Array.from([1, 0, 1]),
    });
    issuer = new Issuer(BlindRSAMode.PSS, "issuer.example", keys.privateKey, keys.publicKey);
    return { key: text(await getPublicKeyBytes(keys.publicKey)), id: text(await issuer.tokenKeyID()) };
  },
  async issue({ request }) {
    const response = await issuer.issue(TokenRequest.deserialize(TOKEN_TYPES.BLIND_RSA, bytes(request)));
    return { response: text(response.serialize()) };
  },
  // The origin: a token in a header, a key as plain rsaEncryption SPKI.
  async verify({ header, key }) {
    const [parsed] = AuthorizationHeader.parse(BLIND_RSA, header);
    const imported = await crypto.subtle.importKey("spki", bytes(key), SPKI_RSA, true, ["verify"]);
    return { good: await new Origin(BlindRSAMode.PSS).verify(parsed.token, imported) };
  },
  async challenge({ header }) {
    const [parsed] = WWWAuthenticateHeader.parse(header);
    return { challenge: text(parsed.challenge.serialize()), key: text(parsed.tokenKey) };
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
