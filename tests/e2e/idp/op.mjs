// SPDX-License-Identifier: MIT
// A real identity provider for the end-to-end tests: npm oidc-provider behind a small harness.
// The protocol is the library's own. Ours: clients, keys, and an admin port that rotates keys,
// injects faults and counts calls.
//
//   OP_DIR=run node op.mjs     keys, certificates and ready.json are made in OP_DIR
//
// Environment: OP_DIR; HOST (127.0.0.1); PORT, TLS_PORT, ADMIN_PORT (0 = any); OP_TLS=1 (the
// issuer is the https one); AT_TTL (300 s); SCOPES (words that may be granted).
//
// Admin port, JSON:
//   POST /rotate {"keep": true|false}   new keys; the old ones stay published or not
//   POST /faults [{"path", "status", "body", "headers", "fill": bytes, "delay_ms", "drop", "drip_ms", "count"}]
//   POST /config {"at_ttl": seconds, "banned": agent, "details": "drop" or JSON to put into tokens}
//   GET  /stats                         calls by path
//   POST /stop
import http from 'node:http';
import https from 'node:https';
import fs from 'node:fs';
import path from 'node:path';
import crypto from 'node:crypto';
import { execFileSync } from 'node:child_process';

// oidc-provider 9 calls URL.parse(), which Node has from 22.1 and in late releases of 20.
URL.parse ??= (url, base) => { try { return new URL(url, base); } catch { return null; } };
const { Provider, errors } = await import('oidc-provider');

const env = process.env;
const dir = env.OP_DIR || path.join(process.cwd(), 'run');
const host = env.HOST || '127.0.0.1';
const scopes = env.SCOPES || 'db.read db.write db.ddl db:orders:read db:orders:write';
const resources = 'https://db.example/'; // and then one of the formats below
const formats = { rs256: 'RS256', ps256: 'PS256', es256: 'ES256', eddsa: 'EdDSA', opaque: null };
const config = { at_ttl: +(env.AT_TTL || 300) };
const file = (name) => path.join(dir, name);
fs.mkdirSync(dir, { recursive: true });

// ------------------------------------------------------------------ keys and certificates
const kinds = {
  RS256: ['rsa', { modulusLength: 2048 }], PS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }], EdDSA: ['ed25519', {}],
};
let generation = 0;

function newKeys() {
  generation += 1;
  return Object.entries(kinds).map(([alg, [type, options]]) => ({
    ...crypto.generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }),
    alg, use: 'sig', kid: `${alg.toLowerCase()}-${generation}`,
  }));
}

// A client's key: PEM for the daemon, JWK for the registration.
function clientKey(name, alg) {
  const pem = file(`${name}.key.pem`);
  if (!fs.existsSync(pem)) {
    const { privateKey } = crypto.generateKeyPairSync(...kinds[alg]);
    fs.writeFileSync(pem, privateKey.export({ format: 'pem', type: 'pkcs8' }), { mode: 0o600 });
  }
  return { ...crypto.createPublicKey(fs.readFileSync(pem)).export({ format: 'jwk' }), kid: `${name}-1`, alg, use: 'sig' };
}

function makeCertificates() {
  const openssl = (...args) => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  if (fs.existsSync(file('server.crt.pem'))) return;
  for (const ca of ['ca', 'other-ca']) openssl('req', '-x509', ...key, '-days', '30', '-subj', `/CN=test ${ca}`, '-keyout', file(`${ca}.key.pem`), '-out', file(`${ca}.crt.pem`));
  fs.writeFileSync(file('server.ext'), `subjectAltName=IP:${host}\n`);
  openssl('req', ...key, '-subj', `/CN=${host}`, '-keyout', file('server.key.pem'), '-out', file('server.csr'));
  openssl('x509', '-req', '-in', file('server.csr'), '-CA', file('ca.crt.pem'), '-CAkey', file('ca.key.pem'), '-CAcreateserial', '-days', '30', '-extfile', file('server.ext'), '-out', file('server.crt.pem'));
}
makeCertificates();

// ------------------------------------------------------------------ the provider
const base = { grant_types: ['client_credentials'], response_types: [], redirect_uris: [], authorization_details_types: ['agent_access', 'other'] };
const parseDetails = (text) => (text === undefined ? undefined : JSON.parse(text));
const secret = (id, method, value, more) => ({ ...base, client_id: id, client_secret: value, token_endpoint_auth_method: method, ...more });
const signed = (id, alg) => ({ ...base, client_id: id, token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: alg, jwks: { keys: [clientKey(id, alg)] } });
const clients = [
  secret('basic', 'client_secret_basic', 'basic-secret'),
  secret('odd', 'client_secret_basic', 'p@ss:w/ rd+%&=~'),
  secret('post', 'client_secret_post', 'post-secret &='),
  secret('limited', 'client_secret_basic', 'limited-secret', { scope: 'db.read' }),
  signed('jwt-es256', 'ES256'), signed('jwt-ps256', 'PS256'), signed('jwt-rs256', 'RS256'), signed('jwt-eddsa', 'EdDSA'),
];
let keys = newKeys();
let issuer;
let handle;

function resourceServer(name) {
  const format = name.startsWith(resources) ? formats[name.slice(resources.length)] : undefined;
  if (format === undefined) throw new errors.InvalidTarget();
  return { scope: scopes, audience: name, accessTokenTTL: config.at_ttl,
    ...(format ? { accessTokenFormat: 'jwt', jwt: { sign: { alg: format } } } : { accessTokenFormat: 'opaque' }) };
}

function build() {
  const algs = Object.keys(kinds);
  const provider = new Provider(issuer, {
    clients: structuredClone(clients),
    jwks: { keys },
    scopes: ['openid', ...scopes.split(' ')],
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    enabledJWA: { clientAuthSigningAlgValues: algs, idTokenSigningAlgValues: algs },
    ttl: { ClientCredentials: (ctx, token) => token.resourceServer?.accessTokenTTL || config.at_ttl },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      richAuthorizationRequests: {
        enabled: true,
        types: {
          other: { validate: async () => {} },
          agent_access: {
            validate: async (ctx, detail) => {
              if (typeof detail.agent !== 'string' || config.banned === detail.agent) throw new errors.InvalidAuthorizationDetails('this agent may not');
            },
          },
        },
        authorizationDetailsForGrantSource: async (ctx) => parseDetails(ctx.oidc.params.authorization_details),
        authorizationDetailsForAccessToken: async (ctx) => (config.details === 'drop' ? undefined : parseDetails(config.details || ctx.oidc.params.authorization_details)),
        authorizationDetailsForIntrospection: async (ctx, token) => token.rar,
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: async () => `${resources}rs256`,
        useGrantedResource: async () => true,
        getResourceServerInfo: async (ctx, name) => resourceServer(name),
      },
    },
  });
  provider.on('server_error', (ctx, e) => console.error('server_error', ctx.path, e));
  handle = provider.callback();
}

// ------------------------------------------------------------------ faults in front of it
let faults = [];
const stats = {};
const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

async function answerWithFault(f, req, res) {
  if (f.delay_ms) await sleep(f.delay_ms);
  if (f.drop) { req.socket.destroy(); return true; }
  if (!f.status) return false;
  res.writeHead(f.status, { 'content-type': 'application/json', ...f.headers });
  if (f.drip_ms) {
    for (let i = 0; i < 1000 && !res.destroyed; i += 1) { res.write(' '); await sleep(f.drip_ms); }
  }
  for (let left = f.fill || 0; left > 0 && !res.destroyed; left -= 65536) {
    if (!res.write('x'.repeat(Math.min(left, 65536)))) await Promise.race([sleep(1000), new Promise((r) => { res.once('drain', r); })]);
  }
  res.end(typeof f.body === 'string' ? f.body : f.body === undefined ? '' : JSON.stringify(f.body));
  return true;
}

async function serve(req, res) {
  const { pathname } = new URL(req.url, 'http://x');
  stats[pathname] = (stats[pathname] || 0) + 1;
  const f = faults.find((x) => x.path === pathname && x.count !== 0);
  if (f) {
    if (f.count > 0) f.count -= 1;
    if (await answerWithFault(f, req, res)) return;
  }
  handle(req, res);
}

// ------------------------------------------------------------------ admin port
async function admin(req, res) {
  const reply = (status, body) => { res.writeHead(status, { 'content-type': 'application/json' }); res.end(`${JSON.stringify(body)}\n`); };
  let text = '';
  for await (const chunk of req) text += chunk;
  try {
    const body = text ? JSON.parse(text) : {};
    switch (`${req.method} ${req.url}`) {
      case 'POST /rotate': keys = [...newKeys(), ...(body.keep ? keys : [])]; build(); reply(200, { kids: keys.map((k) => k.kid) }); break;
      case 'POST /faults': faults = body; reply(200, faults); break;
      case 'POST /config': Object.assign(config, body); reply(200, config); break;
      case 'GET /stats': reply(200, stats); break;
      case 'POST /stop': reply(200, {}); setTimeout(() => process.exit(0), 20); break;
      default: reply(404, { error: 'not found' });
    }
  } catch (e) { reply(400, { error: String(e.message || e) }); }
}

// ------------------------------------------------------------------ start
const listen = (server, port) => new Promise((resolve, reject) => {
  server.once('error', reject);
  server.listen(+(port || 0), host, () => resolve(server.address().port));
});
const port = await listen(http.createServer(serve), env.PORT);
const tlsPort = await listen(https.createServer({ key: fs.readFileSync(file('server.key.pem')), cert: fs.readFileSync(file('server.crt.pem')) }, serve), env.TLS_PORT);
const adminPort = await listen(http.createServer(admin), env.ADMIN_PORT);
issuer = env.OP_TLS === '1' ? `https://${host}:${tlsPort}` : `http://${host}:${port}`;
build();
const ready = { pid: process.pid, issuer, http: `http://${host}:${port}`, https: `https://${host}:${tlsPort}`, admin: `http://${host}:${adminPort}`, dir };
fs.writeFileSync(file('ready.json.tmp'), JSON.stringify(ready));
fs.renameSync(file('ready.json.tmp'), file('ready.json'));
for (const s of ['SIGTERM', 'SIGINT']) process.on(s, () => process.exit(0));
