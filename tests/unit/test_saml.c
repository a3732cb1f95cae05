/* SPDX-License-Identifier: MIT */
/*
 * The SAML verifier. tests/unit/saml holds what auth0's `saml` made at 1700000000 (18 cases,
 * tests/e2e/idp/saml-make.mjs); all else is made and signed here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "guard.h"
#include "ident/b64.h"
#include "ident/saml.h"
#include "jose_make.h"
#include "saml_make.h"

#define NOW	  1700000100u
#define ISS	  "https://idp.example/saml"
#define AUD	  "https://db.example/guard"
#define ACS	  "https://db.example/guard/acs"
#define NS	  "xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\""
#define BEARER	  "urn:oasis:names:tc:SAML:2.0:cm:bearer"
#define DSIG	  "http://www.w3.org/2000/09/xmldsig#"
#define ENVELOPED "<Transform Algorithm=\"" DSIG "enveloped-signature\"/>"
#define EXC	  "<Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/>"

#define CONDITIONS                                                                            \
	"<saml:Conditions NotBefore=\"2023-11-14T22:13:20Z\" NotOnOrAfter=\"2023-11-14T22:17:20Z\">" \
	"<saml:AudienceRestriction><saml:Audience>https://x.example</saml:Audience><saml:Audience>" AUD \
	"</saml:Audience></saml:AudienceRestriction></saml:Conditions>"

static const char good[] =
	"<saml:Assertion " NS " Version=\"2.0\" ID=\"_a1\" IssueInstant=\"2023-11-14T22:13:20.1234567Z\">"
	"<saml:Issuer>" ISS "</saml:Issuer>@SIG@"
	"<saml:Subject><saml:NameID>alice</saml:NameID><saml:SubjectConfirmation Method=\"" BEARER
	"\"><saml:SubjectConfirmationData NotOnOrAfter=\"2023-11-14T22:18:20Z\" Recipient=\"" ACS
	"\"/></saml:SubjectConfirmation></saml:Subject>"
	CONDITIONS
	"<saml:AuthnStatement AuthnInstant=\"2023-11-14T22:13:00Z\" "
	"SessionNotOnOrAfter=\"2023-11-15T22:13:00Z\"><saml:AuthnContext>"
	"<saml:AuthnContextClassRef>urn:mfa</saml:AuthnContextClassRef></saml:AuthnContext>"
	"</saml:AuthnStatement><saml:AttributeStatement><saml:Attribute Name=\"groups\">"
	"<saml:AttributeValue>dba</saml:AttributeValue><saml:AttributeValue>staff</saml:AttributeValue>"
	"</saml:Attribute></saml:AttributeStatement></saml:Assertion>";

#define RESPONSE_OPEN(attrs)                                                                  \
	"<samlp:Response xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" " NS " ID=\"_r1\" " \
	"Version=\"2.0\" IssueInstant=\"2023-11-14T22:13:20Z\"" attrs "><saml:Issuer>" ISS     \
	"</saml:Issuer>"
#define STATUS                                                                                \
	"<samlp:Status><samlp:StatusCode "                                                     \
	"Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\"/></samlp:Status>"

static EVP_PKEY *rsa, *other;
static struct saml_keys *keys;
static const struct saml_rules rules = {
	.issuer = ISS, .audience = AUD, .recipient = ACS, .now_s = NOW, .skew_s = 30, .lifetime_s = 3600,
};

static struct saml_keys *keys_of(const char *pem)
{
	struct saml_keys *k = NULL;
	char error[200];

	assert_int_equal(saml_keys_parse(slice_str(pem), &k, error, sizeof(error)), 0);
	return k;
}

static int make_keys(void **state)
{
	char *pem[2], *both;

	assert_int_equal(saml_init(), 0);
	assert_int_equal(saml_init(), 0);
	rsa = jose_key("RSA");
	other = jose_key("RSA");
	/* During a change of the issuer's key there are two. */
	for (int i = 0; i < 2; i++) {
		EVP_PKEY *k = i ? rsa : jose_key("RSA");

		pem[i] = saml_certificate(k);
		if (!i)
			EVP_PKEY_free(k);
	}
	assert_true(asprintf(&both, "%s%s", pem[0], pem[1]) > 0);
	keys = keys_of(both);
	assert_int_equal(saml_keys_count(keys), 2);
	free(pem[0]);
	free(pem[1]);
	free(both);
	return 0;
}

static int drop_keys(void **state)
{
	saml_keys_free(keys);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(other);
	return 0;
}

/* The document ends at a guard page. */
static int verify(const char *xml, const struct saml_keys *k, const struct saml_rules *q,
		  struct saml_assertion *ret, char error[200])
{
	void *handle;
	size_t n = strlen(xml);
	const uint8_t *p = guard_copy(slice_of(xml, n), &handle);
	int err;

	error[0] = 0;
	err = saml_verify(slice_of(p, n), k, q, ret, error, 200);
	guard_free(handle);
	assert_int_equal(err ? error[0] != 0 : 1, 1);
	return err;
}

static void expect(const char *name, const char *xml, const struct saml_rules *q, const char *want)
{
	struct saml_assertion a = {0};
	char error[200];
	int err = verify(xml, keys, q, &a, error);

	if (want ? err != -EINVAL || !strstr(error, want) : err)
		fail_msg("%s: wanted `%s`, got %d `%s`", name, want ? want : "yes", err, error);
	saml_assertion_done(&a);
}

/* ------------------------------------------------------------- the 18 cases */

static char *read_file(const char *name)
{
	char path[200], *text = calloc(1, SAML_MAX);
	FILE *f;

	(void)snprintf(path, sizeof(path), "tests/unit/saml/%s", name);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_true(fread(text, 1, SAML_MAX - 1, f) > 0);
	(void)fclose(f);
	return text;
}

static void test_cases(void **state)
{
	static const struct {
		const char *name, *alone, *wrapped; /* NULL: accepted */
	} rows[] = {
		{"good", NULL, "the document is no Response"},
		{"good-responsewrap", "the document is not an Assertion", NULL},
		{"expired", "expired", "no Response"},
		{"wrong-audience", "another audience", "no Response"},
		{"no-audience", "no audience", "no Response"},
		{"no-lifetime", "NotOnOrAfter that is missing", "no Response"},
		{"wrong-recipient", "another recipient", "no Response"},
		{"sha1", "algorithm is not RSA with SHA-256", "no Response"},
		{"comment-in-subject", "a comment", "a comment"},
		{"comment-truncation", "a comment", "a comment"},
		{"doctype", "a DOCTYPE", "a DOCTYPE"},
		{"doctype-idattr", "a DOCTYPE", "a DOCTYPE"},
		{"xsw-nested", "more than one assertion", "more than one assertion"},
		{"xsw-sibling", "more than one assertion", "more than one assertion"},
		{"evil-key", "does not verify", "no Response"},
		{"evil-key-good-cert", "does not verify", "no Response"},
		{"tampered-subject", "does not verify", "no Response"},
		{"unsigned", "not just the signature", "no Response"},
	};
	char *pem = read_file("idp.crt.pem");
	struct saml_keys *mine = keys, *theirs = keys_of(pem);

	keys = theirs;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct saml_rules q = rules;
		char name[100], *xml;

		(void)snprintf(name, sizeof(name), "%s.xml", rows[i].name);
		xml = read_file(name);
		expect(name, xml, &q, rows[i].alone);
		q.response = true;
		expect(name, xml, &q, rows[i].wrapped);
		free(xml);
	}
	keys = mine;
	saml_keys_free(theirs);
	free(pem);
}

/* -------------------------------------------------------------- what it says */

static void test_values(void **state)
{
	char *xml = saml_make(rsa, good, &(struct saml_sign){0}), error[200];
	struct saml_assertion a;
	json_t *groups;

	assert_int_equal(verify(xml, keys, &rules, &a, error), 0);
	assert_string_equal(a.id, "_a1");
	assert_string_equal(a.subject, "alice");
	assert_string_equal(a.context, "urn:mfa");
	assert_int_equal(a.authn_s, 1699999980);
	assert_int_equal(a.issued_s, 1700000000);
	/* The soonest of confirmation, conditions and session. */
	assert_int_equal(a.until_s, 1700000240);
	assert_false(a.one_time);
	groups = json_object_get(a.attributes, "groups");
	assert_int_equal(json_array_size(groups), 2);
	assert_string_equal(json_string_value(json_array_get(groups, 1)), "staff");
	saml_assertion_done(&a);
	saml_assertion_done(&a);
	free(xml);
}

struct row {
	const char *name;
	const char *from, *to;		   /* before it is signed */
	const char *then_from, *then_to;   /* afterwards */
	struct saml_sign how;
	const char *want;		   /* NULL: accepted */
};

static void run_rows(const struct row *rows, size_t n, const char *base, const struct saml_rules *q)
{
	for (size_t i = 0; i < n; i++) {
		const struct row *r = &rows[i];
		char *plain = r->from ? saml_replace(base, r->from, r->to) : strdup(base);
		char *xml = saml_make(rsa, plain, &r->how), *changed;

		changed = r->then_from ? saml_replace(xml, r->then_from, r->then_to) : strdup(xml);
		expect(r->name, changed, q, r->want);
		free(changed);
		free(xml);
		free(plain);
	}
}

/* Properly signed by the issuer, but not for us, not now, or not what we read. */
static void test_content(void **state)
{
	static const struct row rows[] = {
		{"good", .want = NULL},
		{"declaration", .then_from = "<saml:Assertion", .then_to = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<saml:Assertion", .want = NULL},
		{"no authn", "<saml:AuthnStatement AuthnInstant=\"2023-11-14T22:13:00Z\" SessionNotOnOrAfter=\"2023-11-15T22:13:00Z\"><saml:AuthnContext><saml:AuthnContextClassRef>urn:mfa</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>", "", .want = NULL},
		{"one time", "</saml:Conditions>", "<saml:OneTimeUse/></saml:Conditions>", .want = NULL},
		{"version", "Version=\"2.0\"", "Version=\"1.1\"", .want = "version"},
		{"issuer", ISS "<", "https://evil.example<", .want = "another issuer"},
		{"issuer begins alike", ISS "<", ISS "x<", .want = "another issuer"},
		{"issuer twice", "</saml:Issuer>", "</saml:Issuer><saml:Issuer>" ISS "</saml:Issuer>", .want = "another issuer"},
		{"issuer in another namespace", "<saml:Issuer>" ISS "</saml:Issuer>", "<saml:Issuer xmlns:saml=\"urn:x\">" ISS "</saml:Issuer>", .want = "a statement that is not known"},
		{"no instant", " IssueInstant=\"2023-11-14T22:13:20.1234567Z\"", "", .want = "IssueInstant"},
		{"instant with a zone", "20.1234567Z", "20+01:00", .want = "IssueInstant"},
		{"instant without fraction", "20.1234567Z", "20.Z", .want = "IssueInstant"},
		{"issued in the future", "2023-11-14T22:13:20.1", "2023-11-14T22:16:20.1", .want = "in the future"},
		{"issued long ago", "2023-11-14T22:13:20.1", "2023-11-14T21:13:20.1", .want = "longer ago than"},
		{"good for a year", "2023-11-14T22:17:20Z", "2024-11-14T22:17:20Z", .want = "longer than `lifetime`"},
		{"confirmed for a year", "2023-11-14T22:18:20Z", "2024-11-14T22:18:20Z", .want = "longer than `lifetime`"},
		{"conditions over", "2023-11-14T22:17:20Z", "2023-11-14T22:14:20Z", .want = "expired"},
		{"confirmation over", "2023-11-14T22:18:20Z", "2023-11-14T22:14:20Z", .want = "expired"},
		{"within the skew", "2023-11-14T22:17:20Z", "2023-11-14T22:14:40Z", .want = NULL},
		{"session over", "2023-11-15T22:13:00Z", "2023-11-14T22:13:30Z", .want = "session at the issuer"},
		{"not yet", "NotBefore=\"2023-11-14T22:13:20Z\"", "NotBefore=\"2023-11-14T22:16:20Z\"", .want = "not valid yet"},
		{"no end", " NotOnOrAfter=\"2023-11-14T22:17:20Z\"", "", .want = "NotOnOrAfter"},
		{"no end of the confirmation", "NotOnOrAfter=\"2023-11-14T22:18:20Z\" ", "", .want = "NotOnOrAfter"},
		{"an end that is none", "2023-11-14T22:17:20Z", "never", .want = "NotOnOrAfter"},
		{"no conditions", CONDITIONS, "", .want = "not one element Conditions"},
		{"conditions twice", CONDITIONS, CONDITIONS CONDITIONS, .want = "not one element Conditions"},
		{"unknown condition", "</saml:Conditions>", "<saml:Condition/></saml:Conditions>", .want = "condition that is not known"},
		{"second audience restriction", "</saml:AudienceRestriction>", "</saml:AudienceRestriction><saml:AudienceRestriction><saml:Audience>https://x</saml:Audience></saml:AudienceRestriction>", .want = "another audience"},
		{"audience with space", "<saml:Audience>" AUD, "<saml:Audience> " AUD, .want = "another audience"},
		{"audience is a prefix", AUD "<", AUD "/x<", .want = "another audience"},
		{"no recipient", " Recipient=\"" ACS "\"", "", .want = "another recipient"},
		{"sender vouches", BEARER, "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches", .want = "no bearer"},
		{"holder of key", BEARER, "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key", .want = "no bearer"},
		{"no confirmation data", "<saml:SubjectConfirmationData NotOnOrAfter=\"2023-11-14T22:18:20Z\" Recipient=\"" ACS "\"/>", "", .want = "without plain"},
		{"in response to", "Recipient=", "InResponseTo=\"_q\" Recipient=", .want = "request that is not ours"},
		{"tied to an address", "Recipient=", "Address=\"10.0.0.1\" Recipient=", .want = "address"},
		{"two names", "</saml:NameID>", "</saml:NameID><saml:NameID>root</saml:NameID>", .want = "NameID"},
		{"no name", "<saml:NameID>alice</saml:NameID>", "", .want = "NameID"},
		{"empty name", ">alice<", "><", .want = "NameID"},
		{"name with an element", ">alice<", ">alice<saml:b/><", .want = "text beside elements"},
		{"name with a line", ">alice<", ">alice&#10;root<", .want = "NameID"},
		{"name with space behind", ">alice<", ">alice <", .want = "NameID"},
		{"encrypted id", "<saml:NameID>alice</saml:NameID>", "<saml:EncryptedID/>", .want = "NameID"},
		{"two subjects", "<saml:Conditions", "<saml:Subject/><saml:Conditions", .want = "subject"},
		{"decision", "<saml:AttributeStatement>", "<saml:AuthzDecisionStatement Decision=\"Deny\"/><saml:AttributeStatement>", .want = "statement that is not known"},
		{"two logins", "<saml:AttributeStatement>", "<saml:AuthnStatement AuthnInstant=\"2023-11-14T22:13:00Z\"/><saml:AttributeStatement>", .want = "more than one AuthnStatement"},
		{"login in the future", "2023-11-14T22:13:00Z", "2023-11-14T23:13:00Z", .want = "authentication in the future"},
		{"encrypted attribute", "</saml:AttributeStatement>", "<saml:EncryptedAttribute/></saml:AttributeStatement>", .want = "attribute that cannot be read"},
		{"encrypted assertion inside", "</saml:Conditions>", "</saml:Conditions><saml:Advice><saml:EncryptedAssertion/></saml:Advice>", .want = "encrypted"},
		{"assertion inside", "</saml:Conditions>", "</saml:Conditions><saml:Advice><saml:Assertion/></saml:Advice>", .want = "more than one assertion"},
		{"assertion of another namespace", "</saml:Conditions>", "</saml:Conditions><Assertion xmlns=\"urn:x\"/>", .want = "more than one assertion"},
		{"xml:id", "<saml:Conditions ", "<saml:Conditions xml:id=\"_a1\" ", .want = "attribute that an assertion does not have"},
		{"values of another type", "<saml:AttributeValue>dba</saml:AttributeValue>", "<saml:AttributeValue><saml:NameID>x</saml:NameID></saml:AttributeValue>", .want = NULL},
	};

	run_rows(rows, ARRAY_SIZE(rows), good, &rules);
}

/* Another confirmation may be good where one is not. */
static void test_confirmations(void **state)
{
	static const char bad[] = "<saml:SubjectConfirmation Method=\"" BEARER
				  "\"><saml:SubjectConfirmationData NotOnOrAfter=\"2023-11-14T22:14:50Z\" "
				  "Recipient=\"https://x\"/></saml:SubjectConfirmation>";
	char *plain = saml_replace(good, "<saml:SubjectConfirmation ", "@X@<saml:SubjectConfirmation ");
	char *two = saml_replace(plain, "@X@", bad), *xml, error[200];
	struct saml_rules q = rules;
	struct saml_assertion a;

	xml = saml_make(rsa, two, &(struct saml_sign){0});
	assert_int_equal(verify(xml, keys, &q, &a, error), 0);
	assert_int_equal(a.until_s, 1700000240);
	saml_assertion_done(&a);
	free(xml);
	free(plain);
	/* The request that was ours. */
	plain = saml_replace(good, "Recipient=", "InResponseTo=\"_q\" Recipient=");
	xml = saml_make(rsa, plain, &(struct saml_sign){0});
	q.in_response_to = "_q";
	expect("ours", xml, &q, NULL);
	q.in_response_to = "_p";
	expect("another", xml, &q, "not ours");
	free(xml);
	free(plain);
	free(two);
}

/* ------------------------------------------------------------- the signature */

static void test_signature(void **state)
{
	static const struct row rows[] = {
		{"sha-384", .how = {.method = "rsa-sha384", .digest = "http://www.w3.org/2001/04/xmldsig-more#sha384"}},
		{"sha-512", .how = {.method = "rsa-sha512", .digest = "http://www.w3.org/2001/04/xmlenc#sha512"}},
		{"prefixes", .how = {.transforms = ENVELOPED "<Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"><InclusiveNamespaces xmlns=\"http://www.w3.org/2001/10/xml-exc-c14n#\" PrefixList=\"saml\"/></Transform>"}},
		{"key info", .how = {.more = "<KeyInfo><KeyName>attacker</KeyName></KeyInfo>"}},
		{"sha-1 digest", .how = {.digest = DSIG "sha1"}, .want = "digest's algorithm"},
		{"sha-1", .how = {.method = DSIG "rsa-sha1"}, .want = "signature's algorithm"},
		{"sha-224", .how = {.method = "rsa-sha224"}, .want = "signature's algorithm"},
		{"inclusive", .how = {.c14n = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"}, .want = "canonicalization"},
		{"with comments", .how = {.c14n = "http://www.w3.org/2001/10/xml-exc-c14n#WithComments"}, .want = "canonicalization"},
		{"only canonicalization", .how = {.transforms = EXC}, .want = "transforms"},
		{"only enveloped", .how = {.transforms = ENVELOPED}, .want = "transforms"},
		{"transforms turned round", .then_from = ENVELOPED EXC, .then_to = EXC ENVELOPED, .want = "transforms"},
		{"a third", .then_from = ENVELOPED EXC, .then_to = ENVELOPED EXC EXC, .want = "transforms"},
		{"xpath", .how = {.transforms = ENVELOPED "<Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xpath-19991116\"><XPath>not(ancestor-or-self::*[local-name()='NameID'])</XPath></Transform>" EXC}, .want = "transforms"},
		{"the whole document", .how = {.uri = ""}, .want = "about another element"},
		{"xpointer", .how = {.uri = "#xpointer(id('_a1'))"}, .want = "about another element"},
		{"xpointer to the root", .how = {.uri = "#xpointer(/)"}, .want = "about another element"},
		{"an object", .how = {.more = "<Object><x/></Object>"}, .want = "holds other than"},
		{"a second reference", .how = {.second = "<Reference URI=\"\"><Transforms>" ENVELOPED EXC "</Transforms><DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"/><DigestValue></DigestValue></Reference>"}, .want = "just one reference"},
		{"an ID that is an expression", "ID=\"_a1\"", "ID=\"_a1')|id('x\"", .how = {.uri = ""}, .want = "usable ID"},
		{"a byte of the value", .then_from = "alice", .then_to = "malice", .want = "does not verify"},
		{"an attribute more", .then_from = "Version=", .then_to = "Consent=\"x\" Version=", .want = "does not verify"},
		{"white space in the value", .then_from = ">alice<", .then_to = ">alice\n<", .want = "does not verify"},
		{"a group more", .then_from = "<saml:AttributeValue>", .then_to = "<saml:AttributeValue>root</saml:AttributeValue><saml:AttributeValue>", .want = "does not verify"},
		{"another ID", .then_from = "ID=\"_a1\"", .then_to = "ID=\"_a2\"", .want = "about another element"},
		{"both IDs", .then_from = "URI=\"#_a1\"", .then_to = "URI=\"#_a2\"", .want = "about another element"},
		{"method changed", .then_from = "rsa-sha256", .then_to = "rsa-sha512", .want = "does not verify"},
		{"hmac", .then_from = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", .then_to = DSIG "hmac-sha1", .want = "signature's algorithm"},
		{"hmac of no length", .then_from = "#rsa-sha256\"/>", .then_to = "#rsa-sha256\"><HMACOutputLength>0</HMACOutputLength></SignatureMethod>", .want = "signature's algorithm"},
		{"cdata", .then_from = ">alice<", .then_to = "><![CDATA[alice]]><", .want = "CDATA"},
		{"processing instruction", .then_from = ">alice<", .then_to = ">ali<?x ?>ce<", .want = "processing instruction"},
		{"comment elsewhere", .then_from = "<saml:Subject>", .then_to = "<!-- --><saml:Subject>", .want = "comment"},
		{"comment in front", .then_from = "<saml:Assertion ", .then_to = "<!-- --><saml:Assertion ", .want = "comment"},
		{"entity", .then_from = ">alice<", .then_to = ">&root;<", .want = "well-formed"},
		{"signature moved", .then_from = "<saml:Subject>", .then_to = "<saml:Subject><Signature xmlns=\"" DSIG "\"/>", .want = "not just the signature"},
		{"trailing element", .then_from = "</saml:Assertion>", .then_to = "</saml:Assertion><x/>", .want = "well-formed"},
		{"trailing text", .then_from = "</saml:Assertion>", .then_to = "</saml:Assertion>x", .want = "well-formed"},
		{"latin", .then_from = "<saml:Assertion", .then_to = "<?xml version=\"1.0\" encoding=\"latin1\"?><saml:Assertion", .want = "no UTF-8"},
		{"utf-7", .then_from = "<saml:Assertion", .then_to = "<?xml version=\"1.0\" encoding=\"utf-7\"?><saml:Assertion", .want = "no UTF-8"},
	};

	run_rows(rows, ARRAY_SIZE(rows), good, &rules);
}

/* What was signed is there, but not where it is read. */
static void test_wrapping(void **state)
{
	char *xml = saml_make(rsa, good, &(struct saml_sign){0}), *text, *evil;
	struct saml_rules q = rules;

	/* The signature of one assertion in another with the same ID. */
	evil = saml_replace(xml, ">alice<", ">root<");
	expect("same ID", evil, &q, "does not verify");
	/* The signed one in an element that nobody reads. */
	assert_true(asprintf(&text, "<saml:Assertion " NS " Version=\"2.0\" ID=\"_x\" "
				    "IssueInstant=\"2023-11-14T22:13:20Z\"><saml:Advice>%s</saml:Advice>"
				    "</saml:Assertion>", xml) > 0);
	expect("advice", text, &q, "more than one assertion");
	free(text);
	q.response = true;
	assert_true(asprintf(&text, RESPONSE_OPEN("") STATUS "<samlp:Extensions>%s</samlp:Extensions>"
				    "</samlp:Response>", xml) > 0);
	expect("extensions", text, &q, "not known here");
	free(text);
	assert_true(asprintf(&text, RESPONSE_OPEN("") STATUS "<saml:Issuer>%s</saml:Issuer>"
				    "</samlp:Response>", xml) > 0);
	expect("in the issuer", text, &q, "another issuer");
	free(text);
	/* Signed by somebody else whose certificate is in it. */
	text = saml_make(other, good, &(struct saml_sign){0});
	q.response = false;
	expect("another's", text, &q, "does not verify");
	free(text);
	free(evil);
	free(xml);
}

static void test_response(void **state)
{
	static const struct row rows[] = {
		{"good", .want = NULL},
		{"destination", "ID=\"_r1\"", "ID=\"_r1\" Destination=\"" ACS "\"", .want = NULL},
		{"another destination", "ID=\"_r1\"", "ID=\"_r1\" Destination=\"https://x\"", .want = "destination"},
		{"no success", "status:Success", "status:Responder", .want = "no success"},
		{"no status", STATUS, "", .want = "no success"},
		{"in response to", "ID=\"_r1\"", "ID=\"_r1\" InResponseTo=\"_q\"", .want = "not ours"},
		{"version", "Version=\"2.0\" IssueInstant", "Version=\"1.0\" IssueInstant", .want = "version"},
		{"issuer", "<saml:Issuer>" ISS, "<saml:Issuer>https://x", .want = "another issuer"},
	};
	static const char open[] = RESPONSE_OPEN("") STATUS;
	struct saml_rules q = rules;
	char *base, *twice, *xml;

	q.response = true;
	assert_true(asprintf(&base, "%s%s</samlp:Response>", open, good) > 0);
	run_rows(rows, ARRAY_SIZE(rows), base, &q);
	/* A signature of the Response counts, too: a wrong one is no matter of taste. */
	xml = saml_make(rsa, base, &(struct saml_sign){0});
	twice = saml_replace(xml, STATUS, "@SIG@" STATUS);
	free(xml);
	xml = saml_make(rsa, twice, &(struct saml_sign){.uri = "#_r1"});
	expect("both signed", xml, &q, NULL);
	free(base);
	base = saml_replace(xml, "ID=\"_r1\"", "ID=\"_r1\" Consent=\"x\"");
	expect("changed", base, &q, "does not verify");
	free(xml);
	xml = saml_make(other, twice, &(struct saml_sign){.uri = "#_r1"});
	expect("by another", xml, &q, "does not verify");
	free(xml);
	free(base);
	/* Only the Response is signed. */
	base = saml_replace(open, STATUS, "@SIG@" STATUS);
	xml = saml_replace(good, "@SIG@", "");
	free(twice);
	assert_true(asprintf(&twice, "%s%s</samlp:Response>", base, xml) > 0);
	free(xml);
	xml = saml_make(rsa, twice, &(struct saml_sign){.uri = "#_r1"});
	expect("only the response", xml, &q, "not just the signature");
	free(xml);
	free(base);
	free(twice);
}

/* -------------------------------------------------------------- bytes, keys */

static void test_bytes(void **state)
{
	struct saml_assertion a;
	char error[200], *deep = calloc(1, 4000);
	size_t n = 0;

	expect("nothing", "", &rules, "XML");
	expect("text", "no xml", &rules, "XML");
	expect("open", "<saml:Assertion", &rules, "XML");
	expect("declaration only", "<?xml version=\"1.0\"", &rules, "XML");
	expect("control", "<a>\x01</a>", &rules, "control");
	expect("bytes", "<a>\xff\xfe</a>", &rules, "UTF-8");
	for (int i = 0; i < 100; i++)
		n += (size_t)snprintf(deep + n, 4000 - n, "<a>");
	for (int i = 0; i < 100; i++)
		n += (size_t)snprintf(deep + n, 4000 - n, "</a>");
	expect("deep", deep, &rules, "nested");
	free(deep);
	/* A document in UTF-16 with a NUL in every second byte. */
	assert_int_equal(saml_verify(slice_of("<\0a\0/\0>\0", 8), keys, &rules, &a, error, sizeof(error)),
			 -EINVAL);
	deep = malloc(SAML_MAX + 1);
	memset(deep, ' ', SAML_MAX + 1);
	assert_int_equal(saml_verify(slice_of(deep, SAML_MAX + 1), keys, &rules, &a, error, sizeof(error)),
			 -EINVAL);
	assert_non_null(strstr(error, "larger"));
	free(deep);
}

/* @n times a piece with a number in it, in place of the word MANY. */
static void expect_many(const char *base, const char *before, const char *after, unsigned n,
			const char *want)
{
	char *many = calloc(1, SAML_MAX), *xml;
	size_t at = 0;

	for (unsigned i = 0; i < n; i++)
		at += (size_t)snprintf(many + at, SAML_MAX - at, "%s%u%s", before, i, after);
	assert_true(at < SAML_MAX);
	xml = saml_replace(base, "MANY", many);
	expect(want ? want : "few", xml, &rules, want);
	free(xml);
	free(many);
}

/* What anybody may send must not cost more than it is worth. */
static void test_bombs(void **state)
{
	char *xml = saml_make(rsa, good, &(struct saml_sign){0}), *base, *listed;

	base = saml_replace(xml, "Version=", "MANY Version=");
	expect_many(base, " a", "=\"\"", 20, "does not verify");
	expect_many(base, " a", "=\"\"", 5000, "too many attributes");
	expect_many(base, " xmlns:a", "=\"u\"", 2500, "too many namespaces");
	free(base);
	listed = saml_replace(xml, "exc-c14n#\"/></Transforms>",
			      "exc-c14n#\"><InclusiveNamespaces xmlns=\"http://www.w3.org/2001/10/"
			      "xml-exc-c14n#\" PrefixList=\"MANY\"/></Transform></Transforms>");
	expect_many(listed, "p", " ", 20, "does not verify");
	expect_many(listed, "p", " ", 8000, "transforms");
	free(listed);
	base = saml_replace(xml, "<saml:Subject>", "MANY<saml:Subject>");
	expect_many(base, "<x", "/>", 6000, "does not verify");
	free(base);
	free(xml);
}

static void test_decode(void **state)
{
	static const struct {
		const char *text, *want; /* NULL: refused */
	} rows[] = {
		{"<a/>", "<a/>"},   {" \n<a/>\n", "<a/>"}, {"PGEvPg", "<a/>"}, {"PGEvPg==\n", "<a/>"},
		{"PGE/Pg==", "<a?>"}, {"PGE_Pg", "<a?>"},   {"PGE_Pg==", NULL}, {"PGE/Pg", NULL},
		{"", NULL},	    {" ", NULL},	   {"!", NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct buf b;
		int err;

		buf_init(&b, SAML_MAX);
		err = saml_decode(slice_str(rows[i].text), &b);
		assert_int_equal(err, rows[i].want ? 0 : -EINVAL);
		if (!err)
			assert_true(slice_eq_str(buf_slice(&b), rows[i].want));
		buf_done(&b);
	}
}

static void test_keys(void **state)
{
	static const struct {
		const char *kind, *want;
	} rows[] = {{"RSA1024", "shorter than 2048"}, {"P-256", "not RSA"}};
	struct saml_keys *k;
	char error[200], *pem, *cut;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		EVP_PKEY *key = jose_key(rows[i].kind);

		pem = saml_certificate(key);
		assert_int_equal(saml_keys_parse(slice_str(pem), &k, error, sizeof(error)), -EINVAL);
		assert_non_null(strstr(error, rows[i].want));
		free(pem);
		EVP_PKEY_free(key);
	}
	assert_int_equal(saml_keys_parse(slice_str("x"), &k, error, sizeof(error)), -EINVAL);
	assert_string_equal(error, "no certificate in PEM");
	pem = saml_certificate(rsa);
	cut = saml_replace(pem, "-----END", "!----END");
	assert_int_equal(saml_keys_parse(slice_str(cut), &k, error, sizeof(error)), -EINVAL);
	assert_string_equal(error, "a certificate that cannot be read");
	free(cut);
	free(pem);
	saml_keys_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),	     cmocka_unit_test(test_values),
		cmocka_unit_test(test_content),	     cmocka_unit_test(test_confirmations),
		cmocka_unit_test(test_signature),    cmocka_unit_test(test_wrapping),
		cmocka_unit_test(test_response),     cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_bombs),	     cmocka_unit_test(test_decode),
		cmocka_unit_test(test_keys),
	};

	return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
