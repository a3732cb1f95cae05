// SPDX-License-Identifier: MIT
// A real identity provider for the end-to-end tests: npm oidc-provider behind a small harness.
// The protocol is the library's own. Ours: clients, accounts, keys, the grants of RFC 8693 and
// RFC 7522 (assertions signed by saml-idp.crt.pem in OP_DIR), the answer slow_down, and an admin port that decides for people, rotates keys, injects faults and
// counts calls.
//
//   OP_DIR=run node op.mjs     keys, certificates and ready.json are made in OP_DIR
//
// Environment: OP_DIR; HOST (127.0.0.1); PORT, TLS_PORT, ADMIN_PORT (0 = any); OP_TLS=1 (the
// issuer is the https one); AT_TTL (300 s); SCOPES (words that may be granted); CIBA_TTL (120 s).
//
// Admin port, JSON:
//   POST /rotate {"keep": true|false}   new keys; the old ones stay published or not
//   POST /faults [{"path", "status", "body", "headers", "fill": bytes, "delay_ms", "drop", "drip_ms", "count"}]
//   POST /config {"ping": URL}          a client `ping`, which is told there that there is an answer
//   POST /config {"dpop": "" or "plain" or "nonce" (proofs must have one)} and others
//   POST /config {"at_ttl": seconds, "banned": agent, "details": "drop" or JSON to put into tokens}
//   POST /config {"plain": true}        tokens are for userinfo, if nothing else is asked for
//   GET  /requests                      what people are asked for
//   POST /requests/last/VERDICT         approve, deny, expire or an error code; {"account", "acr",
//                                       "auth_time", "scope", "details"}
//   POST /device/CODE/approve|deny      {"account"}
//   POST /token {"account", "scope", "resource", "ttl", "details"}   an access token of that person
//   POST /revoke {"token"}
//   GET  /audiences                     `aud` of the client assertions that came
//   GET  /stats                         calls by path
//   POST /renew                         a new key and certificate for the client tls-self
//   POST /stop
//
// Clients tls-ca and tls-self prove themselves by certificates on the ports `mtls` and `mtls12` (TLS
// 1.2 only), which discovery tells after POST /config {"mtls": ORIGIN}; the issuer's own port asks
// for none.
import http from 'node:http';
import https from 'node:https';
import fs from 'node:fs';
import path from 'node:path';
import crypto from 'node:crypto';
import { execFileSync } from 'node:child_process';

// oidc-provider 9 calls URL.parse(), which Node has from 22.1 and in late releases of 20.
URL.parse ??= (url, base) => { try { return new URL(url, base); } catch { return null; } };
const { Provider, errors } = await import('oidc-provider');
const { verifyAssertion } = await import('./saml-verify.mjs');

const env = process.env;
const dir = env.OP_DIR || path.join(process.cwd(), 'run');
const host = env.HOST || '127.0.0.1';
const scopes = env.SCOPES || 'db.read db.write db.ddl db:orders:read db:orders:write';
const resources = 'https://db.example/'; // and then one of the formats below
const formats = { rs256: 'RS256', ps256: 'PS256', es256: 'ES256', eddsa: 'EdDSA', opaque: null };
const config = { at_ttl: +(env.AT_TTL || 300), ciba_ttl: +(env.CIBA_TTL || 120), interval: 1, binding: 'loose', slow_down: 0 };
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
// Clients' certificates: one of an authority, behind another one that only the client shows; and one
// that nobody has signed.
function makeClientCertificate(name, chain) {
  const openssl = (...args) => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const key = chain ? ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'] : ['-newkey', 'rsa:2048', '-nodes'];
  const [keyFile, crt, csr, ext] = ['key.pem', 'crt.pem', 'csr', 'ext'].map((x) => file(`${name}.${x}`));
  if (!chain) {
    openssl('req', '-x509', ...key, '-days', '30', '-subj', `/CN=${name}`, '-keyout', keyFile, '-out', crt);
    return;
  }
  openssl('req', '-x509', ...key, '-days', '30', '-subj', '/CN=test clients', '-keyout', file('client-ca.key.pem'), '-out', file('client-ca.crt.pem'));
  fs.writeFileSync(ext, 'basicConstraints=critical,CA:true\n');
  for (const [who, by] of [['middle', 'client-ca'], [name, 'middle']]) {
    openssl('req', ...key, '-subj', `/CN=${who}`, '-keyout', file(`${who}.key.pem`), '-out', csr);
    openssl('x509', '-req', '-in', csr, '-CA', file(`${by}.crt.pem`), '-CAkey', file(`${by}.key.pem`), '-CAcreateserial', '-days', '30', ...(who === 'middle' ? ['-extfile', ext] : []), '-out', file(`${who}.crt.pem`));
  }
  fs.appendFileSync(crt, fs.readFileSync(file('middle.crt.pem')));
}
makeCertificates();
if (!fs.existsSync(file('client-ca.crt.pem'))) {
  makeClientCertificate('tls-ca', true);
  makeClientCertificate('tls-self', false);
}

// ------------------------------------------------------------------ the provider
const CIBA = 'urn:openid:params:grant-type:ciba';
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const SAML = 'urn:ietf:params:oauth:grant-type:saml2-bearer';
const people = {
  alice: { name: 'Alice', email: 'alice@example.com', groups: ['dba', 'staff'] },
  bob: { name: 'Bob', email: 'bob@example.com', groups: ['staff'] },
};
const base = { grant_types: ['client_credentials', CIBA, DEVICE, EXCHANGE, SAML], backchannel_token_delivery_mode: 'poll', response_types: [], redirect_uris: [], authorization_details_types: ['agent_access', 'other'] };
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
function tlsClients() {
  const self = new crypto.X509Certificate(fs.readFileSync(file('tls-self.crt.pem')));
  const bound = { ...base, tls_client_certificate_bound_access_tokens: true };
  return [
    { ...bound, client_id: 'tls-ca', token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: 'CN=tls-ca' },
    { ...bound, client_id: 'tls-self', token_endpoint_auth_method: 'self_signed_tls_client_auth', jwks: { keys: [{ ...self.publicKey.export({ format: 'jwk' }), kid: 'self', x5c: [self.raw.toString('base64')] }] } },
  ];
}
let keys = newKeys();
let issuer;
let handle;
let op;
const pending = new Map(); // auth_req_id -> what the person is asked
const seconds = () => Math.floor(Date.now() / 1000);

function resourceServer(name) {
  const format = name.startsWith(resources) ? formats[name.slice(resources.length)] : undefined;
  if (format === undefined) throw new errors.InvalidTarget();
  return { scope: scopes, audience: name, accessTokenTTL: config.at_ttl,
    ...(format ? { accessTokenFormat: 'jwt', jwt: { sign: { alg: format } } } : { accessTokenFormat: 'opaque' }) };
}

function build() {
  const algs = Object.keys(kinds);
  const provider = new Provider(issuer, {
    clients: structuredClone([...clients, ...tlsClients(), ...(config.ping ? [secret('ping', 'client_secret_basic', 'basic-secret', { backchannel_token_delivery_mode: 'ping', backchannel_client_notification_endpoint: config.ping.replace(/^http:/, 'https:') })] : [])]),
    ...(config.mtls ? { discovery: { mtls_endpoint_aliases: { token_endpoint: `${config.mtls}/token`, introspection_endpoint: `${config.mtls}/token/introspection`, backchannel_authentication_endpoint: `${config.mtls}/backchannel`, device_authorization_endpoint: `${config.mtls}/device/auth` } } } : {}),
    jwks: { keys },
    scopes: ['openid', ...scopes.split(' ')],
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'tls_client_auth', 'self_signed_tls_client_auth'],
    enabledJWA: { clientAuthSigningAlgValues: algs, idTokenSigningAlgValues: algs },
    claims: { openid: ['sub'], email: ['email'], groups: ['groups'], acr: null, auth_time: null },
    acrValues: ['urn:mfa', 'urn:pwd'],
    cookies: { keys: ['test'] },
    // It pings https URLs only, on other hosts: this is the proxy before the one who is pinged.
    fetch: (url, options) => fetch(String(url).replace(/^https:/, 'http:'), { ...options, dispatcher: undefined }),
    conformIdTokenClaims: false,
    findAccount: async (ctx, id) => (Object.hasOwn(people, id) ? { accountId: id, claims: async () => ({ sub: id, ...people[id] }) } : undefined),
    extraTokenClaims: async (ctx, token) => ({ ...(people[token.accountId] ? { groups: people[token.accountId].groups } : {}), ...(ctx?.oidc?.entities?.Actor ? { act: ctx.oidc.entities.Actor } : {}) }),
    adapter: Store,
    ttl: {
      ClientCredentials: (ctx, token) => token.resourceServer?.accessTokenTTL || config.at_ttl,
      AccessToken: (ctx, token) => token.resourceServer?.accessTokenTTL || config.at_ttl,
      BackchannelAuthenticationRequest: (ctx) => Math.min(+(ctx?.oidc?.params?.requested_expiry || 1e9), config.ciba_ttl),
      DeviceCode: () => config.ciba_ttl,
      IdToken: 300, Grant: 86400, Session: 86400, Interaction: 600,
    },
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: async () => true },
      revocation: { enabled: true },
      ...(config.dpop ? { dPoP: { enabled: true, ...(config.dpop === 'nonce' ? { nonceSecret: Buffer.alloc(32, 7), requireNonce: () => true } : {}) } } : { dPoP: { enabled: false } }),
      mTLS: {
        enabled: true, certificateBoundAccessTokens: true, selfSignedTlsClientAuth: true, tlsClientAuth: true,
        getCertificate: (ctx) => ctx.socket.getPeerX509Certificate?.(),
        certificateAuthorized: (ctx) => ctx.socket.authorized,
        certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_subject_dn' && `CN=${ctx.socket.getPeerCertificate().subject.CN}` === expected,
      },
      deviceFlow: { enabled: true },
      claimsParameter: { enabled: true },
      ciba: {
        enabled: true, deliveryModes: ['poll', 'ping'],
        processLoginHint: async (ctx, hint) => Object.keys(people).find((k) => k === hint || people[k].email === hint),
        // A token that it has issued itself: whom that is about.
        processLoginHintToken: async (ctx, hint) => {
          const { createLocalJWKSet, jwtVerify } = await import('jose');
          const set = createLocalJWKSet({ keys: keys.map(({ d, p, q, dp, dq, qi, k, ...pub }) => pub) });
          return jwtVerify(hint, set, { issuer }).then((r) => r.payload.sub, (e) => {
            if (e.code === 'ERR_JWT_EXPIRED') throw new errors.ExpiredLoginHintToken('the token has expired');
          });
        },
        verifyUserCode: async () => {},
        validateRequestContext: async () => {},
        validateBindingMessage: async (ctx, m) => {
          const ok = config.binding === 'strict' ? /^[a-zA-Z0-9-._+/!?#]{1,20}$/ : /^[^\u0000-\u001f\u007f]{0,256}$/;
          if (m !== undefined && !ok.test(m)) throw new errors.InvalidBindingMessage('the binding_message value is not acceptable');
        },
        triggerAuthenticationDevice: async (ctx, request, account) => {
          pending.set(request.jti, { id: request.jti, state: 'pending', account: account.accountId, binding_message: request.params.binding_message, ping_token: request.params.client_notification_token, scope: request.scope, acr_values: request.params.acr_values, exp: request.exp, details: parseDetails(request.params.authorization_details) });
        },
      },
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
        authorizationDetailsForAccessToken: async (ctx, token, source) => (config.details === 'drop' ? undefined : (config.details ? parseDetails(config.details) : undefined) ?? source?.rar ?? parseDetails(ctx.oidc.params.authorization_details)),
        authorizationDetailsForIntrospection: async (ctx, token) => token.rar,
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: async () => (config.plain ? undefined : `${resources}rs256`),
        useGrantedResource: async () => true,
        getResourceServerInfo: async (ctx, name) => resourceServer(name),
      },
    },
  });
  provider.on('server_error', (ctx, e) => console.error('server_error', ctx.path, e));
  provider.on('grant.error', (ctx, e) => console.error('grant.error', e.message, e.error_detail || ''));
  provider.use(tell);
  provider.registerGrantType(EXCHANGE, exchange, ['subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'resource', 'scope', 'authorization_details'], ['resource', 'audience']);
  provider.registerGrantType(SAML, samlBearer, ['assertion', 'resource', 'audience', 'scope', 'authorization_details'], ['resource', 'audience']);
  op = provider;
  handle = provider.callback();
}

// The store of the library forgets at once what has expired; then "expired_token" is never said.
const rows = new Map();
class Store {
  constructor(model) { this.model = model; }
  key(id) { return `${this.model}:${id}`; }
  async upsert(id, payload) { rows.set(this.key(id), payload); }
  async find(id) { return rows.get(this.key(id)); }
  async findBy(member, value) { for (const [k, r] of rows) if (k.startsWith(`${this.model}:`) && r[member] === value) return r; return undefined; }
  async findByUid(v) { return this.findBy('uid', v); }
  async findByUserCode(v) { return this.findBy('userCode', v); }
  async consume(id) { rows.get(this.key(id)).consumed = seconds(); }
  async destroy(id) { rows.delete(this.key(id)); }
  async revokeByGrantId(id) { for (const [k, r] of rows) if (r.grantId === id) rows.delete(k); }
}

const audiences = []; // of client assertions
// The interval, and slow_down where the test asks for it: the library says neither.
async function tell(ctx, next) {
  await next();
  const assertion = ctx.oidc?.params?.client_assertion;
  if (assertion) audiences.push(JSON.parse(Buffer.from(assertion.split('.')[1], 'base64url')).aud);
  if (ctx.body?.auth_req_id || ctx.body?.device_code) ctx.body.interval = config.interval;
  if (ctx.body?.error === 'authorization_pending' && config.slow_down > 0) {
    config.slow_down -= 1;
    ctx.body = { error: 'slow_down' };
  }
}

// RFC 8693, which the library does not have: of our own tokens, never to more than they had.
async function exchange(ctx) {
  const { params, client } = ctx.oidc;
  const { createLocalJWKSet, jwtVerify } = await import('jose');
  const set = createLocalJWKSet({ keys: keys.map(({ d, p, q, dp, dq, qi, k, ...pub }) => pub) });
  const had = await jwtVerify(params.subject_token || '', set, { issuer }).then((r) => r.payload, () => { throw new errors.InvalidRequest('subject_token is invalid'); });
  const words = (params.scope || had.scope || '').split(' ');
  if (words.some((w) => !(had.scope || '').split(' ').includes(w))) throw new errors.InvalidScope('more than the subject token has', params.scope);
  const resource = [].concat(params.resource || `${resources}rs256`)[0];
  const grant = new op.Grant({ clientId: client.clientId, accountId: had.sub });
  grant.addResourceScope(resource, words.join(' '));
  const token = new op.AccessToken({ client, scope: words.join(' '), accountId: had.sub, grantId: await grant.save(), gty: 'token_exchange', rar: config.details === 'drop' ? undefined : parseDetails(params.authorization_details) });
  token.resourceServer = new op.ResourceServer(resource, resourceServer(resource));
  ctx.oidc.entity('AccessToken', token);
  ctx.body = { access_token: await token.save(), issued_token_type: config.issued || 'urn:ietf:params:oauth:token-type:access_token', token_type: 'Bearer', expires_in: token.expiration, scope: token.scope };
}

// RFC 7522, which the library does not have either.
const assertionsUsed = new Set();
async function samlBearer(ctx) {
  const { params, client } = ctx.oidc;
  const xml = Buffer.from(params.assertion || '', 'base64url').toString('utf8');
  const cert = fs.readFileSync(file('saml-idp.crt.pem'), 'utf8');
  const said = await verifyAssertion(xml, { cert, audience: issuer, recipient: `${issuer}/token` }).catch((e) => { throw new errors.InvalidGrant(`assertion: ${e.message}`); });
  if (assertionsUsed.has(said.id)) throw new errors.InvalidGrant('assertion: used before');
  assertionsUsed.add(said.id);
  if (!Object.hasOwn(people, said.nameId)) throw new errors.InvalidGrant('assertion: nobody of that name');
  const resource = [].concat(params.resource || `${resources}rs256`)[0];
  const grant = new op.Grant({ clientId: client.clientId, accountId: said.nameId });
  grant.addResourceScope(resource, params.scope || '');
  const token = new op.AccessToken({ client, scope: params.scope, accountId: said.nameId, grantId: await grant.save(), gty: 'saml2-bearer', rar: config.details === 'drop' ? undefined : parseDetails(params.authorization_details) });
  token.resourceServer = new op.ResourceServer(resource, resourceServer(resource));
  ctx.oidc.entity('AccessToken', token);
  ctx.body = { access_token: await token.save(), token_type: 'Bearer', expires_in: token.expiration, scope: token.scope };
}

async function decide(id, verdict, body) {
  const row = pending.get(id);
  const request = await op.BackchannelAuthenticationRequest.find(id, { ignoreExpiration: true });
  if (!row || !request) throw new Error('no such request');
  row.state = verdict;
  if (verdict === 'expire') { rows.get(`BackchannelAuthenticationRequest:${id}`).exp = seconds() - 1; return row; }
  if (verdict !== 'approve') {
    await op.backchannelResult(request, verdict === 'deny' ? new errors.AccessDenied() : new errors.CustomOIDCProviderError(verdict));
    return row;
  }
  const grant = new op.Grant({ clientId: request.clientId, accountId: body.account || request.accountId });
  const scope = body.scope || request.scope || '';
  grant.addOIDCScope(scope);
  for (const r of [].concat(request.resource || [])) grant.addResourceScope(r, scope);
  if (request.claims) grant.addOIDCClaims(['acr', 'auth_time']);
  await grant.save();
  await op.backchannelResult(request, grant, { acr: body.acr || 'urn:mfa', amr: ['hwk'], authTime: body.auth_time || seconds(), rar: body.details || parseDetails(request.params.authorization_details) });
  return row;
}

async function decideDevice(typed, verdict, body) {
  const code = await op.DeviceCode.findByUserCode(typed.replace(/[^a-z0-9]/gi, '').toUpperCase(), { ignoreExpiration: true });
  if (!code) throw new Error('no such code');
  if (verdict === 'deny') { code.error = 'access_denied'; await code.save(); return {}; }
  const accountId = body.account || 'alice';
  const grant = new op.Grant({ clientId: code.clientId, accountId });
  const scope = code.params.scope || '';
  const resource = [].concat(code.params.resource || `${resources}rs256`);
  grant.addOIDCScope(scope);
  for (const r of resource) grant.addResourceScope(r, scope);
  Object.assign(code, { accountId, grantId: await grant.save(), scope, resource: resource[0], authTime: seconds(), acr: 'urn:mfa', rar: parseDetails(code.params.authorization_details) });
  await code.save();
  return {};
}

// An access token of a person, as an agent would have been given one.
async function tokenFor(body) {
  const client = await op.Client.find('basic');
  const resource = body.resource || `${resources}es256`;
  const grant = new op.Grant({ clientId: 'basic', accountId: body.account || 'alice' });
  grant.addResourceScope(resource, body.scope || 'db.read');
  const token = new op.AccessToken({ client, accountId: body.account || 'alice', grantId: await grant.save(), scope: body.scope || 'db.read', rar: body.details, expiresIn: body.ttl || config.at_ttl, gty: 'test' });
  token.resourceServer = new op.ResourceServer(resource, resourceServer(resource));
  return { token: await token.save() };
}

// Anything, signed with the provider's own ES256 key.
function signAny({ header, claims }) {
  const jwk = keys.find((k) => k.alg === 'ES256');
  const part = (o) => Buffer.from(JSON.stringify(o)).toString('base64url');
  const text = `${part({ alg: 'ES256', kid: jwk.kid, ...header })}.${part(claims)}`;
  const key = crypto.createPrivateKey({ key: jwk, format: 'jwk' });
  return `${text}.${crypto.sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

async function revoke(body) {
  await (await op.AccessToken.find(body.token))?.destroy();
  return {};
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
    const [, what, which, verdict] = req.url.split('/');
    if (req.method === 'POST' && what === 'requests' && verdict) { reply(200, await decide(which === 'last' ? [...pending.keys()].pop() : which, verdict, body)); return; }
    if (req.method === 'POST' && what === 'device' && verdict) { reply(200, await decideDevice(which, verdict, body)); return; }
    switch (`${req.method} ${req.url}`) {
      case 'POST /rotate': keys = [...newKeys(), ...(body.keep ? keys : [])]; build(); reply(200, { kids: keys.map((k) => k.kid) }); break;
      case 'POST /faults': faults = body; reply(200, faults); break;
      case 'POST /config': Object.assign(config, body); if ('mtls' in body || 'dpop' in body || 'ping' in body) build(); reply(200, config); break;
      case 'POST /renew': makeClientCertificate('tls-self', false); build(); reply(200, {}); break;
      case 'GET /stats': reply(200, stats); break;
      case 'GET /audiences': reply(200, audiences); break;
      case 'GET /requests': reply(200, [...pending.values()]); break;
      case 'POST /token': reply(200, await tokenFor(body)); break;
      case 'POST /sign': reply(200, { token: signAny(body) }); break;
      case 'POST /revoke': reply(200, await revoke(body)); break;
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
const asking = (maxVersion) => listen(https.createServer({ key: fs.readFileSync(file('server.key.pem')), cert: fs.readFileSync(file('server.crt.pem')), ca: fs.readFileSync(file('client-ca.crt.pem')), requestCert: true, rejectUnauthorized: false, maxVersion }, serve), 0);
const [mtlsPort, mtls12Port] = [await asking('TLSv1.3'), await asking('TLSv1.2')];
const adminPort = await listen(http.createServer(admin), env.ADMIN_PORT);
issuer = env.OP_TLS === '1' ? `https://${host}:${tlsPort}` : `http://${host}:${port}`;
build();
const ready = { pid: process.pid, issuer, http: `http://${host}:${port}`, https: `https://${host}:${tlsPort}`, mtls: `https://${host}:${mtlsPort}`, mtls12: `https://${host}:${mtls12Port}`, admin: `http://${host}:${adminPort}`, dir };
fs.writeFileSync(file('ready.json.tmp'), JSON.stringify(ready));
fs.renameSync(file('ready.json.tmp'), file('ready.json'));
for (const s of ['SIGTERM', 'SIGINT']) process.on(s, () => process.exit(0));
