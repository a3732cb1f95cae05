/* SPDX-License-Identifier: MIT */
/*
 * Verifier of SAML 2.0 bearer assertions. Pure but for saml_init(): no file, no network, no
 * clock. A signature that verifies says only that somebody signed something; all that makes
 * an assertion of it (one element, the signed one, for us, now) is checked here.
 */
#ifndef TIDEGATE_IDENT_SAML_H
#define TIDEGATE_IDENT_SAML_H

#include <jansson.h>

#include "base/buf.h"
#include "base/compiler.h"

enum {
	SAML_MAX = 64 << 10,  /* of a document */
	SAML_PEM_MAX = 64 << 10,
	SAML_KEYS_MAX = 8,    /* certificates of one issuer */
	SAML_VALUES_MAX = 512, /* of all attributes */
};

struct saml_keys;

struct saml_rules {
	const char *issuer, *audience, *recipient; /* needed */
	const char *in_response_to; /* NULL: the assertion must answer no request of anybody's */
	bool response;		    /* the document is a samlp:Response that holds the assertion */
	uint64_t now_s, skew_s;
	uint64_t lifetime_s; /* longest, from IssueInstant on */
};

/* What the signed element says; owns its texts. */
struct saml_assertion {
	char *id, *subject;
	char *context;		/* AuthnContextClassRef, "" if it says none */
	uint64_t authn_s;	/* AuthnInstant; 0: it says none */
	uint64_t issued_s, until_s; /* the soonest of all ends */
	bool one_time;		/* OneTimeUse */
	json_t *attributes;	/* name: list of texts */
};

/*
 * Makes the libraries ready; once, before a sandbox takes away what they want for that.
 * 0 or -ENOTSUP.
 */
MUST_CHECK int saml_init(void);

/* Certificates of the issuer, PEM, one or more; only their keys count. 0, or -EINVAL with words. */
MUST_CHECK int saml_keys_parse(struct slice pem, struct saml_keys **ret, char *error,
			       size_t error_cap);
void saml_keys_free(struct saml_keys *k);
unsigned saml_keys_count(const struct saml_keys *k);

/* 0, or -EINVAL with what is wrong with the document, -ENOMEM. */
MUST_CHECK int saml_verify(struct slice xml, const struct saml_keys *keys,
			   const struct saml_rules *rules, struct saml_assertion *ret, char *error,
			   size_t error_cap);
/* Safe on a zeroed one. */
void saml_assertion_done(struct saml_assertion *a);

/*
 * An agent holds its assertion as XML, as base64 or as base64url (RFC 7522): the XML of it.
 * White space around it does not count. 0, -EINVAL, -EMSGSIZE or -ENOMEM.
 */
MUST_CHECK int saml_decode(struct slice token, struct buf *ret_xml);

#endif
