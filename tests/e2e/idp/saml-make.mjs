// SPDX-License-Identifier: MIT
// Makes SAML 2.0 assertions with auth0's `saml`, good and hostile ones, as an identity provider
// and those who attack it would.
//
//   node saml-make.mjs KEY_DIR OUT_DIR     saml-idp.crt.pem and the rest are made in KEY_DIR,
//                                          one file for each case in OUT_DIR
//
// Environment: AUDIENCE, RECIPIENT, SUBJECT, ISSUER, LIFETIME (seconds); GROUPS (words); CLOCK
// (seconds: the assertions are made as if it were then); ONLY (names of cases).
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';

const env = process.env;
if (env.CLOCK) Date.now = () => +env.CLOCK * 1000;
const { Saml20 } = createRequire(import.meta.url)('saml');
const [, , keyDir, outDir] = process.argv;
fs.mkdirSync(keyDir, { recursive: true });
fs.mkdirSync(outDir, { recursive: true });

function certificate(name) {
  const key = path.join(keyDir, `${name}.key.pem`);
  const crt = path.join(keyDir, `${name}.crt.pem`);
  if (!fs.existsSync(crt)) execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '3650', '-subj', `/CN=${name}`, '-keyout', key, '-out', crt], { stdio: 'ignore' });
  return { key: fs.readFileSync(key), cert: fs.readFileSync(crt) };
}

const good = certificate('saml-idp');
const evil = certificate('saml-evil');
const issuer = env.ISSUER || 'https://idp.example/saml';
const audience = env.AUDIENCE || 'https://db.example/guard';
const recipient = env.RECIPIENT || 'https://db.example/guard/acs';
const subject = env.SUBJECT || 'dba-alice';
const lifetime = +(env.LIFETIME || 300);
const groups = (env.GROUPS || 'dba approvers').split(' ');
const make = (o = {}, who = good) => Saml20.create({
  ...who, issuer, lifetimeInSeconds: lifetime, audiences: audience, recipient, nameIdentifier: subject,
  nameIdentifierFormat: 'urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified',
  authnContextClassRef: 'urn:oasis:names:tc:SAML:2.0:ac:classes:TimeSyncToken',
  signatureAlgorithm: 'rsa-sha256', digestAlgorithm: 'sha256', uid: crypto.randomBytes(16).toString('hex'),
  attributes: { groups }, ...o });
const instant = new Date(Date.now()).toISOString();
const response = (id, inside) => `<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="${id}" Version="2.0" IssueInstant="${instant}" Destination="${recipient}"><saml:Issuer xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">${issuer}</saml:Issuer><samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>${inside}</samlp:Response>`;
const a = make();
// Signature wrapping: a forged assertion beside or around the signed one.
const forged = a.replace(/ID="[^"]+"/, 'ID="_forged"').replace(/<Signature[\s\S]*<\/Signature>/, '').replace(`>${subject}<`, '>root<');
const half = Math.floor(subject.length / 2);
const cases = {
  good: () => a,
  'good-responsewrap': () => response('_r1', a),
  expired: () => make({ lifetimeInSeconds: -3600 }),
  sha1: () => make({ signatureAlgorithm: 'rsa-sha1', digestAlgorithm: 'sha1' }),
  'wrong-audience': () => make({ audiences: 'https://other.example/' }),
  'no-audience': () => make({ audiences: undefined }),
  'wrong-recipient': () => make({ recipient: 'https://other.example/acs' }),
  'no-lifetime': () => make({ lifetimeInSeconds: undefined }),
  // The embedded certificate is the attacker's own, or the issuer's with the attacker's signature.
  'evil-key': () => make({}, evil),
  'evil-key-good-cert': () => make({}, { key: evil.key, cert: good.cert }),
  unsigned: () => Saml20.createUnsignedAssertion({ issuer, lifetimeInSeconds: lifetime, audiences: audience, recipient, nameIdentifier: subject }),
  'tampered-subject': () => a.replace(`>${subject}<`, '>root<'),
  // Canonical form drops comments: the signature still verifies.
  'comment-in-subject': () => a.replace(`>${subject}<`, `>${subject.slice(0, half)}<!-- -->${subject.slice(half)}<`),
  'comment-truncation': () => make({ nameIdentifier: `${subject}.evil.example` }).replace(`>${subject}.evil`, `>${subject}<!-- -->.evil`),
  'xsw-sibling': () => response('_r2', forged + a),
  'xsw-nested': () => forged.replace('<saml:Subject>', `<saml:Advice>${a}</saml:Advice><saml:Subject>`),
  doctype: () => `<!DOCTYPE foo [<!ENTITY x "root">]>${a.replace(`>${subject}<`, '>&x;<')}`,
  'doctype-idattr': () => `<!DOCTYPE saml:Assertion [<!ATTLIST saml:Assertion ID ID #REQUIRED>]>${a}`,
};
for (const name of env.ONLY ? env.ONLY.split(' ') : Object.keys(cases)) fs.writeFileSync(path.join(outDir, `${name}.xml`), cases[name]());
