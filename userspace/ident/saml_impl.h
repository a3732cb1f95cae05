/* SPDX-License-Identifier: MIT */
/*
 * Inside of the SAML verifier: saml.c (the document and what the assertion says), saml_sig.c
 * (its signature), saml_text.c (bytes before they are XML).
 */
#ifndef TIDEGATE_IDENT_SAML_IMPL_H
#define TIDEGATE_IDENT_SAML_IMPL_H

#include <libxml/tree.h>

#include "ident/saml.h"

#define SAML_NS	 "urn:oasis:names:tc:SAML:2.0:assertion"
#define SAMLP_NS "urn:oasis:names:tc:SAML:2.0:protocol"
#define DSIG_NS	 "http://www.w3.org/2000/09/xmldsig#"

bool saml_is(const xmlNode *n, const char *ns, const char *name);
/* Child elements; what else there is besides text was refused before. */
xmlNode *saml_first(const xmlNode *parent);
xmlNode *saml_next(const xmlNode *n);
/* The value of an attribute without a namespace; NULL: none. Valid as long as the document. */
const char *saml_attr(const xmlNode *n, const char *name);
/* The text of an element that holds nothing else; NULL: it does. */
const char *saml_text(const xmlNode *n);

/*
 * saml_text.c: NULL and what an XML parser may see, without a declaration; or why not even a
 * parser sees these bytes.
 */
const char *saml_bytes(struct slice xml, struct slice *ret);
/* "2026-01-31T12:00:00Z", with any fraction; seconds, or -EINVAL. */
MUST_CHECK int saml_time(const char *text, uint64_t *ret_s);

/*
 * saml_sig.c: NULL, or why the one signature that is a child of @node does not cover it.
 * @ret_signed (may be NULL): the very bytes that were signed.
 */
const char *saml_signed(xmlNode *node, const struct saml_keys *keys, struct buf *ret_signed);

#endif
