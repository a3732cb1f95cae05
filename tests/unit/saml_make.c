/* SPDX-License-Identifier: MIT */
#include "saml_make.h"

#include <libxml/parser.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xmlsec/crypto.h>
#include <xmlsec/openssl/evp.h>
#include <xmlsec/xmldsig.h>
#include <xmlsec/xmltree.h>

#include "base/compiler.h"

#define MORE   "http://www.w3.org/2001/04/xmldsig-more#"
#define EXC    "http://www.w3.org/2001/10/xml-exc-c14n#"
#define SHA256 "http://www.w3.org/2001/04/xmlenc#sha256"
#define BOTH                                                                                 \
	"<Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/>"    \
	"<Transform Algorithm=\"" EXC "\"/>"

static const char *or(const char *text, const char *usual)
{
	return text ? text : usual;
}

char *saml_replace(const char *text, const char *from, const char *to)
{
	const char *at = strstr(text, from);
	char *out;

	BUG_ON(!at);
	BUG_ON(asprintf(&out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from)) < 0);
	return out;
}

static char *template_of(const struct saml_sign *how)
{
	char *text;

	BUG_ON(asprintf(&text,
			"<Signature xmlns=\"http://www.w3.org/2000/09/xmldsig#\"><SignedInfo>"
			"<CanonicalizationMethod Algorithm=\"%s\"/><SignatureMethod Algorithm=\"%s%s\"/>"
			"<Reference URI=\"%s\"><Transforms>%s</Transforms>"
			"<DigestMethod Algorithm=\"%s\"/><DigestValue></DigestValue></Reference>%s"
			"</SignedInfo><SignatureValue></SignatureValue>%s</Signature>",
			or(how->c14n, EXC), how->method && strchr(how->method, '/') ? "" : MORE,
			or(how->method, "rsa-sha256"), or(how->uri, "#_a1"),
			or(how->transforms, BOTH), or(how->digest, SHA256), or(how->second, ""),
			or(how->more, "")) < 0);
	return text;
}

static void name_ids(xmlDoc *doc, xmlNode *n)
{
	for (; n; n = n->next) {
		xmlAttr *a = n->type == XML_ELEMENT_NODE ? xmlHasProp(n, BAD_CAST "ID") : NULL;
		xmlChar *value = a ? xmlNodeListGetString(doc, a->children, 1) : NULL;

		if (value && !xmlGetID(doc, value))
			(void)xmlAddID(NULL, doc, value, a);
		xmlFree(value);
		name_ids(doc, n->children);
	}
}

static xmlSecKeyPtr wrap(EVP_PKEY *pkey)
{
	xmlSecKeyPtr key = xmlSecKeyCreate();

	BUG_ON(!key || !EVP_PKEY_up_ref(pkey));
	BUG_ON(xmlSecKeySetValue(key, xmlSecOpenSSLEvpKeyAdopt(pkey)) < 0);
	return key;
}

/* The signature that has no value yet. */
static xmlNode *unfinished(xmlNode *n)
{
	for (; n; n = n->next) {
		xmlNode *value, *found;

		value = n->type == XML_ELEMENT_NODE && strcmp((const char *)n->name, "Signature") == 0
				? xmlSecFindChild(n, xmlSecNodeSignatureValue, xmlSecDSigNs)
				: NULL;
		if (value && !value->children)
			return n;
		found = unfinished(n->children);
		if (found)
			return found;
	}
	return NULL;
}

char *saml_make(EVP_PKEY *pkey, const char *xml, const struct saml_sign *how)
{
	char *sig = template_of(how), *text = saml_replace(xml, "@SIG@", sig);
	xmlDoc *doc = xmlReadMemory(text, (int)strlen(text), "t", NULL, XML_PARSE_NONET);
	xmlSecDSigCtxPtr ctx = xmlSecDSigCtxCreate(NULL);
	xmlBuffer *out = xmlBufferCreate();

	BUG_ON(!doc || !ctx || !out);
	name_ids(doc, xmlDocGetRootElement(doc));
	ctx->signKey = wrap(pkey);
	BUG_ON(xmlSecDSigCtxSign(ctx, unfinished(xmlDocGetRootElement(doc))) < 0);
	BUG_ON(xmlNodeDump(out, doc, xmlDocGetRootElement(doc), 0, 0) < 0);
	free(text);
	text = strdup((const char *)xmlBufferContent(out));
	xmlSecDSigCtxDestroy(ctx);
	xmlBufferFree(out);
	xmlFreeDoc(doc);
	free(sig);
	return text;
}

char *saml_certificate(EVP_PKEY *key)
{
	X509 *x = X509_new();
	X509_NAME *name = X509_NAME_new();
	BIO *bio = BIO_new(BIO_s_mem());
	char *pem, *at;
	long n;

	BUG_ON(!x || !name || !bio);
	BUG_ON(!X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"t", -1, -1, 0));
	BUG_ON(!X509_set_subject_name(x, name) || !X509_set_issuer_name(x, name));
	BUG_ON(!X509_gmtime_adj(X509_getm_notBefore(x), 0) ||
	       !X509_gmtime_adj(X509_getm_notAfter(x), 3600));
	BUG_ON(!X509_set_pubkey(x, key) || !X509_sign(x, key, EVP_sha256()));
	BUG_ON(!PEM_write_bio_X509(bio, x));
	n = BIO_get_mem_data(bio, &at);
	pem = strndup(at, (size_t)n);
	X509_NAME_free(name);
	X509_free(x);
	BIO_free(bio);
	return pem;
}
