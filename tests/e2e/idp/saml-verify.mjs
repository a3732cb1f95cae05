// SPDX-License-Identifier: MIT
// Verifies a SAML 2.0 bearer assertion for the RFC 7522 grant of op.mjs, by xml-crypto: one
// assertion, it is the root, the signature covers it, and it is for us.
import crypto from 'node:crypto';
import { DOMParser } from '@xmldom/xmldom';
import { SignedXml } from 'xml-crypto';

const NS = 'urn:oasis:names:tc:SAML:2.0:assertion';
const DS = 'http://www.w3.org/2000/09/xmldsig#';
const BEARER = 'urn:oasis:names:tc:SAML:2.0:cm:bearer';
const RSA_SHA256 = 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256';
const fail = (why) => { throw new Error(why); };

function text(node) {
  if (Array.from(node.childNodes).some((c) => c.nodeType !== 3)) fail('unexpected markup in text');
  return node.textContent;
}
const kids = (n, ns, name) => Array.from(n.childNodes).filter((c) => c.nodeType === 1 && c.namespaceURI === ns && c.localName === name);
function one(n, ns, name) {
  const found = kids(n, ns, name);
  return found.length === 1 ? found[0] : fail(`want exactly one ${name}`);
}
function time(value, what) {
  const t = Date.parse(value);
  return !value || Number.isNaN(t) ? fail(`missing ${what}`) : t;
}

function signedPart(xml, cert) {
  if (/<!DOCTYPE/i.test(xml)) fail('DOCTYPE is not allowed');
  const root = new DOMParser({ errorHandler: { warning() {}, error: fail, fatalError: fail } }).parseFromString(xml, 'text/xml').documentElement;
  if (!root || root.namespaceURI !== NS || root.localName !== 'Assertion') fail('root is not an Assertion');
  if (root.getElementsByTagNameNS(NS, 'Assertion').length) fail('nested Assertion');
  const s = new SignedXml({ publicCert: crypto.createPublicKey(cert).export({ type: 'spki', format: 'pem' }), getCertFromKeyInfo: () => null });
  s.loadSignature(one(root, DS, 'Signature'));
  if (s.signatureAlgorithm !== RSA_SHA256) fail('signature algorithm is not allowed');
  if (!s.checkSignature(xml)) fail('signature does not verify');
  const refs = s.getSignedReferences();
  if (refs.length !== 1) fail('want one signed reference');
  const signed = new DOMParser().parseFromString(refs[0], 'text/xml').documentElement;
  if (signed.getAttribute('ID') !== root.getAttribute('ID')) fail('signature covers something else');
  return signed;
}

export async function verifyAssertion(xml, { cert, audience, recipient, skew = 30 }) {
  const a = signedPart(xml, cert);
  const now = Date.now();
  const fresh = (value, what) => time(value, what) + skew * 1000 > now;
  const conditions = one(a, NS, 'Conditions');
  if (!fresh(conditions.getAttribute('NotOnOrAfter'), 'NotOnOrAfter')) fail('expired');
  if (conditions.getAttribute('NotBefore') && time(conditions.getAttribute('NotBefore')) - skew * 1000 > now) fail('not yet valid');
  if (!kids(one(conditions, NS, 'AudienceRestriction'), NS, 'Audience').some((x) => text(x) === audience)) fail('wrong audience');
  const subject = one(a, NS, 'Subject');
  const usable = kids(subject, NS, 'SubjectConfirmation').filter((x) => x.getAttribute('Method') === BEARER)
    .map((x) => one(x, NS, 'SubjectConfirmationData'))
    .some((d) => d.getAttribute('Recipient') === recipient && fresh(d.getAttribute('NotOnOrAfter'), 'NotOnOrAfter of the confirmation'));
  if (!usable) fail('no usable bearer confirmation');
  return { id: a.getAttribute('ID'), nameId: text(one(subject, NS, 'NameID')) };
}
