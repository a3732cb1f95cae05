/* SPDX-License-Identifier: MIT */
/*
 * What an assertion says, and whether that is meant for us (SAML 2.0 Core, Profiles 4.1.4.3,
 * RFC 7522 section 3). Values are read from the bytes that were signed, parsed anew, and from
 * nowhere else. What is not known here makes the assertion void.
 */
#include "ident/saml.h"

#include <ctype.h>
#include <errno.h>
#include <libxml/parser.h>

#include "ident/saml_impl.h"

enum {
	DEPTH_MAX = 24,
	/* Canonicalization, which comes before anything is known to be genuine, is quadratic in these. */
	ATTRIBUTES_MAX = 32, /* of one element */
	NAMESPACES_MAX = 64, /* declared in one document */
	SUBJECT_MAX = 255,
	VALUE_MAX = 1024,
};

#define BEARER	"urn:oasis:names:tc:SAML:2.0:cm:bearer"
#define SUCCESS "urn:oasis:names:tc:SAML:2.0:status:Success"

/* ----------------------------------------------------------------- the tree */

bool saml_is(const xmlNode *n, const char *ns, const char *name)
{
	return n->ns && n->ns->href && strcmp((const char *)n->ns->href, ns) == 0 &&
	       strcmp((const char *)n->name, name) == 0;
}

static xmlNode *element_from(xmlNode *n)
{
	while (n && n->type != XML_ELEMENT_NODE)
		n = n->next;
	return n;
}

xmlNode *saml_first(const xmlNode *parent)
{
	return element_from(parent->children);
}

xmlNode *saml_next(const xmlNode *n)
{
	return element_from(n->next);
}

static const char *one_text(const xmlNode *child)
{
	if (!child)
		return "";
	return child->type == XML_TEXT_NODE && !child->next ? (const char *)child->content : NULL;
}

const char *saml_attr(const xmlNode *n, const char *name)
{
	const xmlAttr *a = xmlHasNsProp((xmlNode *)(uintptr_t)n, BAD_CAST name, NULL);

	return a ? one_text(a->children) : NULL;
}

const char *saml_text(const xmlNode *n)
{
	return one_text(n->children);
}

static bool blank(const char *s)
{
	return s[strspn(s, " \t\r\n")] == '\0';
}

struct census {
	unsigned assertions, encrypted, signatures, namespaces;
};

static const char *check_attributes(const xmlNode *n, struct census *c)
{
	unsigned count = 0;

	for (const xmlNs *ns = n->nsDef; ns; ns = ns->next)
		if (++c->namespaces > NAMESPACES_MAX)
			return "too many namespaces";
	for (const xmlAttr *a = n->properties; a; a = a->next) {
		if (++count > ATTRIBUTES_MAX)
			return "too many attributes in an element";
		if (!one_text(a->children) || (a->ns && strcmp((const char *)a->ns->href,
							       (const char *)XML_XML_NAMESPACE) == 0))
			return "an attribute that an assertion does not have";
	}
	return NULL;
}

/* NULL, or what there is that an assertion does not have. */
static const char *check_tree(const xmlNode *n, unsigned depth, struct census *c)
{
	bool parent = saml_first(n);
	const char *why;

	if (depth > DEPTH_MAX)
		return "elements nested too deeply";
	c->assertions += strcmp((const char *)n->name, "Assertion") == 0;
	c->encrypted += strcmp((const char *)n->name, "EncryptedAssertion") == 0;
	c->signatures += saml_is(n, DSIG_NS, "Signature");
	why = check_attributes(n, c);
	if (why)
		return why;
	for (const xmlNode *k = n->children; k; k = k->next) {
		if (k->type != XML_ELEMENT_NODE && k->type != XML_TEXT_NODE)
			return "markup that is neither element nor text";
		if (k->type == XML_TEXT_NODE && parent && !blank((const char *)k->content))
			return "text beside elements";
		why = k->type == XML_ELEMENT_NODE ? check_tree(k, depth + 1, c) : NULL;
		if (why)
			return why;
	}
	return NULL;
}

static xmlDoc *parse(struct slice xml)
{
	return xmlReadMemory((const char *)xml.p, (int)xml.n, "saml", "UTF-8",
			     XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
				     XML_PARSE_IGNORE_ENC);
}

/* NULL and the root; @ret_doc is the caller's in any case. */
static const char *load(struct slice xml, xmlDoc **ret_doc, struct census *c)
{
	xmlDoc *doc = parse(xml);
	xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;

	*ret_doc = doc;
	*c = (struct census){0};
	if (!root)
		return "no well-formed XML";
	if (doc->intSubset || doc->extSubset || doc->children != root || root->next)
		return "more in the document than one element";
	return check_tree(root, 0, c);
}

/* The only child of that name; NULL: none or several. */
static xmlNode *only(const xmlNode *parent, const char *ns, const char *name)
{
	xmlNode *found = NULL;

	for (xmlNode *n = saml_first(parent); n; n = saml_next(n)) {
		if (!saml_is(n, ns, name))
			continue;
		if (found)
			return NULL;
		found = n;
	}
	return found;
}

static unsigned count(const xmlNode *parent, const char *ns, const char *name)
{
	unsigned found = 0;

	for (const xmlNode *n = saml_first(parent); n; n = saml_next(n))
		found += saml_is(n, ns, name);
	return found;
}

/* All children are in @ns and of these names. */
static bool knows(const xmlNode *parent, const char *ns, const char *const *names)
{
	for (const xmlNode *n = saml_first(parent); n; n = saml_next(n)) {
		size_t i = 0;

		while (names[i] && !saml_is(n, ns, names[i]))
			i++;
		if (!names[i] && !saml_is(n, DSIG_NS, "Signature"))
			return false;
	}
	return true;
}

static bool same(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

/* ------------------------------------------------------------------- values */

struct reading {
	const struct saml_rules *rules;
	struct saml_assertion *to;
};

static char *copy(const char *text)
{
	return strdup(text ? text : "");
}

/* One end more: the soonest counts. */
static const char *take_end(struct reading *r, const char *text)
{
	uint64_t end;

	if (saml_time(text, &end))
		return "a NotOnOrAfter that is missing or no time in UTC";
	if (end > r->to->issued_s && end - r->to->issued_s > r->rules->lifetime_s)
		return "the assertion is good for longer than `lifetime` allows";
	if (end < r->to->until_s)
		r->to->until_s = end;
	if (end + r->rules->skew_s <= r->rules->now_s)
		return "the assertion has expired";
	return NULL;
}

static const char *check_start(const struct reading *r, const char *text)
{
	uint64_t start;

	if (!text)
		return NULL;
	if (saml_time(text, &start))
		return "a NotBefore that is no time in UTC";
	return start > r->rules->now_s + r->rules->skew_s ? "the assertion is not valid yet" : NULL;
}

static const char *read_head(struct reading *r, const xmlNode *a)
{
	const struct saml_rules *q = r->rules;
	const xmlNode *issuer = only(a, SAML_NS, "Issuer");

	if (!same(saml_attr(a, "Version"), "2.0"))
		return "the version is not 2.0";
	if (!issuer || !same(saml_text(issuer), q->issuer))
		return "another issuer than the configured one";
	if (saml_time(saml_attr(a, "IssueInstant"), &r->to->issued_s))
		return "an IssueInstant that is missing or no time in UTC";
	if (r->to->issued_s > q->now_s + q->skew_s)
		return "the assertion was issued in the future";
	if (r->to->issued_s + q->lifetime_s + q->skew_s <= q->now_s)
		return "the assertion was issued longer ago than `lifetime`";
	r->to->until_s = r->to->issued_s + q->lifetime_s;
	r->to->id = copy(saml_attr(a, "ID"));
	return NULL;
}

static const char *check_answers(const struct reading *r, const char *in_response_to)
{
	if (!in_response_to)
		return NULL;
	return same(in_response_to, r->rules->in_response_to)
		       ? NULL
		       : "the assertion answers a request that is not ours";
}

static const char *check_bearer(struct reading *r, const xmlNode *confirmation)
{
	const xmlNode *data = only(confirmation, SAML_NS, "SubjectConfirmationData");
	const char *why;

	if (!data || saml_first(data))
		return "a bearer confirmation without plain SubjectConfirmationData";
	if (!same(saml_attr(data, "Recipient"), r->rules->recipient))
		return "the confirmation is for another recipient";
	if (saml_attr(data, "Address"))
		return "the confirmation is tied to a network address, which is not known here";
	why = check_answers(r, saml_attr(data, "InResponseTo"));
	if (!why)
		why = check_start(r, saml_attr(data, "NotBefore"));
	return why ? why : take_end(r, saml_attr(data, "NotOnOrAfter"));
}

static bool printable(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ')
			return false;
	return true;
}

static const char *read_subject(struct reading *r, const xmlNode *a)
{
	static const char *const known[] = {"NameID", "SubjectConfirmation", NULL};
	const xmlNode *subject = only(a, SAML_NS, "Subject"), *name;
	const char *text, *why = "no bearer confirmation";
	unsigned good = 0;

	name = subject ? only(subject, SAML_NS, "NameID") : NULL;
	text = name ? saml_text(name) : NULL;
	if (!text || !knows(subject, SAML_NS, known))
		return "not one subject with a plain NameID";
	if (blank(text) || strlen(text) > SUBJECT_MAX || !printable(text) ||
	    isspace((unsigned char)text[0]) || isspace((unsigned char)text[strlen(text) - 1]))
		return "the NameID is no plain name";
	for (const xmlNode *n = saml_first(subject); n && !good; n = saml_next(n)) {
		uint64_t until = r->to->until_s;

		if (!saml_is(n, SAML_NS, "SubjectConfirmation") || !same(saml_attr(n, "Method"), BEARER))
			continue;
		why = check_bearer(r, n);
		good += !why;
		if (why)
			r->to->until_s = until;
	}
	if (!good)
		return why;
	r->to->subject = copy(text);
	return NULL;
}

static const char *check_audience(const struct reading *r, const xmlNode *restriction)
{
	for (const xmlNode *n = saml_first(restriction); n; n = saml_next(n))
		if (saml_is(n, SAML_NS, "Audience") && same(saml_text(n), r->rules->audience))
			return NULL;
	return "the assertion is for another audience";
}

static const char *read_conditions(struct reading *r, const xmlNode *a)
{
	static const char *const known[] = {"AudienceRestriction", "OneTimeUse", "ProxyRestriction",
					    NULL};
	const xmlNode *conditions = only(a, SAML_NS, "Conditions");
	const char *why;

	if (!conditions)
		return "not one element Conditions";
	if (!knows(conditions, SAML_NS, known))
		return "a condition that is not known here";
	if (!count(conditions, SAML_NS, "AudienceRestriction"))
		return "the assertion names no audience";
	for (const xmlNode *n = saml_first(conditions); n; n = saml_next(n)) {
		why = saml_is(n, SAML_NS, "AudienceRestriction") ? check_audience(r, n) : NULL;
		if (why)
			return why;
	}
	r->to->one_time = count(conditions, SAML_NS, "OneTimeUse");
	why = check_start(r, saml_attr(conditions, "NotBefore"));
	return why ? why : take_end(r, saml_attr(conditions, "NotOnOrAfter"));
}

static const char *read_authn(struct reading *r, const xmlNode *a)
{
	const xmlNode *n = only(a, SAML_NS, "AuthnStatement"), *context, *class;
	const char *text = NULL;

	if (count(a, SAML_NS, "AuthnStatement") > 1)
		return "more than one AuthnStatement";
	context = n ? only(n, SAML_NS, "AuthnContext") : NULL;
	class = context ? only(context, SAML_NS, "AuthnContextClassRef") : NULL;
	if (class)
		text = saml_text(class);
	r->to->context = copy(text && printable(text) ? text : "");
	if (!n)
		return NULL;
	if (saml_time(saml_attr(n, "AuthnInstant"), &r->to->authn_s))
		return "an AuthnInstant that is missing or no time in UTC";
	if (r->to->authn_s > r->rules->now_s + r->rules->skew_s)
		return "an authentication in the future";
	/* A session may be good for longer than the assertion: only its end counts. */
	text = saml_attr(n, "SessionNotOnOrAfter");
	if (text) {
		uint64_t end;

		if (saml_time(text, &end))
			return "a SessionNotOnOrAfter that is no time in UTC";
		if (end + r->rules->skew_s <= r->rules->now_s)
			return "the session at the issuer has ended";
		if (end < r->to->until_s)
			r->to->until_s = end;
	}
	return NULL;
}

static const char *read_attribute(struct reading *r, const xmlNode *attribute, unsigned *n)
{
	const char *name = saml_attr(attribute, "Name");
	json_t *list;

	if (!name || !*name)
		return "an attribute without a name";
	list = json_object_get(r->to->attributes, name);
	if (!list) {
		list = json_array();
		if (!list || json_object_set_new(r->to->attributes, name, list) != 0)
			return "out of memory";
	}
	for (const xmlNode *v = saml_first(attribute); v; v = saml_next(v)) {
		const char *text = saml_is(v, SAML_NS, "AttributeValue") ? saml_text(v) : NULL;

		/* Of another type than text: nothing that could be compared. */
		if (!text || !printable(text) || strlen(text) > VALUE_MAX)
			continue;
		if (++*n > SAML_VALUES_MAX)
			return "too many attributes";
		if (json_array_append_new(list, json_string(text)) != 0)
			return "out of memory";
	}
	return NULL;
}

static const char *read_attributes(struct reading *r, const xmlNode *a)
{
	static const char *const known[] = {"Attribute", NULL};
	const char *why = NULL;
	unsigned values = 0;

	for (const xmlNode *s = saml_first(a); s; s = saml_next(s)) {
		if (!saml_is(s, SAML_NS, "AttributeStatement"))
			continue;
		if (!knows(s, SAML_NS, known))
			return "an attribute that cannot be read";
		for (const xmlNode *n = saml_first(s); n && !why; n = saml_next(n))
			why = read_attribute(r, n, &values);
		if (why)
			return why;
	}
	return NULL;
}

static const char *read_assertion(struct reading *r, const xmlNode *a)
{
	static const char *const known[] = {"Issuer", "Subject", "Conditions", "AuthnStatement",
					    "AttributeStatement", NULL};
	const char *why = knows(a, SAML_NS, known) ? NULL : "a statement that is not known here";

	r->to->attributes = json_object();
	if (!r->to->attributes)
		return "out of memory";
	if (!why)
		why = read_head(r, a);
	if (!why)
		why = read_conditions(r, a);
	if (!why)
		why = read_subject(r, a);
	if (!why)
		why = read_authn(r, a);
	if (!why)
		why = read_attributes(r, a);
	return why;
}

/* ----------------------------------------------------------------- document */

/* The Response around it (Core section 3.2.2): what it says must not be against us. */
static const char *check_response(const struct reading *r, xmlNode *root,
				  const struct saml_keys *keys)
{
	const xmlNode *status = only(root, SAMLP_NS, "Status"), *issuer, *code;
	const char *to = saml_attr(root, "Destination");

	for (const xmlNode *n = saml_first(root); n; n = saml_next(n))
		if (!saml_is(n, SAML_NS, "Issuer") && !saml_is(n, SAML_NS, "Assertion") &&
		    !saml_is(n, SAMLP_NS, "Status") && !saml_is(n, DSIG_NS, "Signature"))
			return "the Response holds what is not known here";
	if (!same(saml_attr(root, "Version"), "2.0"))
		return "the version is not 2.0";
	code = status ? only(status, SAMLP_NS, "StatusCode") : NULL;
	if (!code || !same(saml_attr(code, "Value"), SUCCESS))
		return "the Response speaks of no success";
	if (to && !same(to, r->rules->recipient))
		return "the Response is for another destination";
	issuer = only(root, SAML_NS, "Issuer");
	if (count(root, SAML_NS, "Issuer") > 1 || (issuer && !same(saml_text(issuer), r->rules->issuer)))
		return "another issuer than the configured one";
	if (count(root, DSIG_NS, "Signature")) {
		const char *why = saml_signed(root, keys, NULL);

		if (why)
			return why;
	}
	return check_answers(r, saml_attr(root, "InResponseTo"));
}

static const char *find_assertion(const struct reading *r, xmlNode *root, const struct census *c,
				  const struct saml_keys *keys, xmlNode **ret)
{
	unsigned signatures = 1;
	const char *why;

	if (c->encrypted)
		return "an encrypted assertion, for which there is no key here";
	if (c->assertions != 1)
		return c->assertions ? "more than one assertion in the document" : "no assertion";
	*ret = root;
	if (r->rules->response) {
		if (!saml_is(root, SAMLP_NS, "Response"))
			return "the document is no Response";
		why = check_response(r, root, keys);
		if (why)
			return why;
		signatures += count(root, DSIG_NS, "Signature");
		*ret = only(root, SAML_NS, "Assertion");
	}
	if (!*ret || !saml_is(*ret, SAML_NS, "Assertion"))
		return r->rules->response ? "the assertion is not the Response's own"
					  : "the document is not an Assertion";
	return c->signatures == signatures ? NULL : "not just the signature of the assertion";
}

/* What was signed is read as a document of its own: there is nothing in it but that. */
static const char *read_signed(struct reading *r, struct slice bytes, const char *id)
{
	struct census c;
	xmlDoc *doc;
	const char *why = load(bytes, &doc, &c);
	const xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;

	if (!why && (!saml_is(root, SAML_NS, "Assertion") || c.assertions != 1 || c.signatures ||
		     !same(saml_attr(root, "ID"), id)))
		why = "the signature is about something else";
	if (!why)
		why = read_assertion(r, root);
	xmlFreeDoc(doc);
	return why;
}

static const char *judge(struct reading *r, struct slice xml, const struct saml_keys *keys)
{
	struct census c;
	struct slice body;
	struct buf bytes;
	xmlNode *assertion;
	xmlDoc *doc;
	const char *why = saml_bytes(xml, &body);

	if (why)
		return why;
	buf_init(&bytes, 4 * SAML_MAX);
	why = load(body, &doc, &c);
	if (!why)
		why = find_assertion(r, xmlDocGetRootElement(doc), &c, keys, &assertion);
	if (!why)
		why = saml_signed(assertion, keys, &bytes);
	if (!why)
		why = read_signed(r, buf_slice(&bytes), saml_attr(assertion, "ID"));
	xmlFreeDoc(doc);
	xmlResetLastError();
	buf_done(&bytes);
	return why;
}

int saml_verify(struct slice xml, const struct saml_keys *keys, const struct saml_rules *rules,
		struct saml_assertion *ret, char *error, size_t error_cap)
{
	struct saml_assertion a = {0};
	struct reading r = {.rules = rules, .to = &a};
	const char *why = judge(&r, xml, keys);
	bool whole = a.id && a.subject && a.context && a.attributes;

	if (!why && whole) {
		*ret = a;
		return 0;
	}
	(void)snprintf(error, error_cap, "%s", why ? why : "out of memory");
	saml_assertion_done(&a);
	return why ? -EINVAL : -ENOMEM;
}

void saml_assertion_done(struct saml_assertion *a)
{
	free(a->id);
	free(a->subject);
	free(a->context);
	json_decref(a->attributes);
	*a = (struct saml_assertion){0};
}
