/* SPDX-License-Identifier: MIT */
/*
 * The signature of an element (XML Signature, of which next to nothing is allowed): one
 * reference, to the element that it stands in, by the two transforms that SAML names (Core
 * section 5.4), RSA with SHA-2, and a key of the configuration. What the signature says of its
 * key is not read.
 */
#include "ident/saml_impl.h"

#include <errno.h>
#include <libxml/parser.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <xmlsec/crypto.h>
#include <xmlsec/errors.h>
#include <xmlsec/io.h>
#include <xmlsec/openssl/evp.h>
#include <xmlsec/xmldsig.h>
#include <xmlsec/xmlsec.h>

enum {
	RSA_BITS_MIN = 2048,
	PREFIXES_MAX = 256, /* bytes of a PrefixList: each prefix is looked up for each element */
};

#define EXC_C14N  "http://www.w3.org/2001/10/xml-exc-c14n#"
#define ENVELOPED DSIG_NS "enveloped-signature"

struct saml_keys {
	xmlSecKeyPtr key[SAML_KEYS_MAX];
	unsigned n;
};

static bool ready;

/* -------------------------------------------------------------------- start */

static void quiet_xml(void *ctx, const char *fmt, ...)
{
}

static void quiet_xmlsec(const char *file, int line, const char *func, const char *object,
			 const char *subject, int reason, const char *msg)
{
}

static xmlParserInputPtr no_entity(const char *url, const char *id, xmlParserCtxtPtr ctx)
{
	return NULL;
}

int saml_init(void)
{
	if (ready)
		return 0;
	xmlInitParser();
	xmlSetGenericErrorFunc(NULL, quiet_xml);
	xmlSetExternalEntityLoader(no_entity);
	xmlSecErrorsSetCallback(quiet_xmlsec);
	if (xmlSecInit() < 0 || xmlSecCheckVersion() != 1 || xmlSecOpenSSLInit() < 0)
		return -ENOTSUP;
	/* References elsewhere are refused; without these they could not be followed, either. */
	xmlSecIOCleanupCallbacks();
	xmlSecErrorsSetCallback(quiet_xmlsec);
	ready = true;
	return 0;
}

/* --------------------------------------------------------------------- keys */

/* NULL, or why the certificate's key is not used. */
static const char *add_key(struct saml_keys *k, X509 *cert)
{
	EVP_PKEY *pkey = X509_get0_pubkey(cert);
	xmlSecKeyDataPtr data;
	xmlSecKeyPtr key;

	if (!pkey || EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA)
		return "a certificate whose key is not RSA";
	if (EVP_PKEY_get_bits(pkey) < RSA_BITS_MIN)
		return "a certificate whose RSA key is shorter than 2048 bits";
	if (k->n == SAML_KEYS_MAX)
		return "more than 8 certificates";
	key = xmlSecKeyCreate();
	if (!key || !EVP_PKEY_up_ref(pkey)) {
		xmlSecKeyDestroy(key);
		return "out of memory";
	}
	data = xmlSecOpenSSLEvpKeyAdopt(pkey);
	if (!data) {
		EVP_PKEY_free(pkey);
		xmlSecKeyDestroy(key);
		return "a key that cannot be used";
	}
	if (xmlSecKeySetValue(key, data) < 0) {
		xmlSecKeyDataDestroy(data);
		xmlSecKeyDestroy(key);
		return "a key that cannot be used";
	}
	k->key[k->n++] = key;
	return NULL;
}

int saml_keys_parse(struct slice pem, struct saml_keys **ret, char *error, size_t error_cap)
{
	struct saml_keys *k = calloc(1, sizeof(*k));
	BIO *bio = pem.n <= SAML_PEM_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
	const char *why = bio ? NULL : pem.n > SAML_PEM_MAX ? "too large" : "out of memory";
	X509 *cert;

	while (k && !why && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		why = add_key(k, cert);
		X509_free(cert);
	}
	/* Its end is that no further certificate begins; anything else is a broken one. */
	if (!why && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		why = "a certificate that cannot be read";
	ERR_clear_error();
	BIO_free(bio);
	if (k && !why && k->n == 0)
		why = "no certificate in PEM";
	if (!k || why) {
		(void)snprintf(error, error_cap, "%s", why ? why : "out of memory");
		saml_keys_free(k);
		return k ? -EINVAL : -ENOMEM;
	}
	*ret = k;
	return 0;
}

void saml_keys_free(struct saml_keys *k)
{
	for (unsigned i = 0; k && i < k->n; i++)
		xmlSecKeyDestroy(k->key[i]);
	free(k);
}

unsigned saml_keys_count(const struct saml_keys *k)
{
	return k->n;
}

/* -------------------------------------------------------------------- shape */

static bool listed(const char *const *list, size_t n, const char *word)
{
	for (size_t i = 0; word && i < n; i++)
		if (strcmp(list[i], word) == 0)
			return true;
	return false;
}

static const char *const signature_methods[] = {
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha384",
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha512",
};
static const char *const digest_methods[] = {
	"http://www.w3.org/2001/04/xmlenc#sha256",
	"http://www.w3.org/2001/04/xmldsig-more#sha384",
	"http://www.w3.org/2001/04/xmlenc#sha512",
};

/* Exclusive canonicalization, whose only parameter are prefixes. */
static bool is_c14n(const xmlNode *n)
{
	const xmlNode *child = saml_first(n);
	const char *alg = saml_attr(n, "Algorithm");
	const char *prefixes = child ? saml_attr(child, "PrefixList") : NULL;

	return alg && strcmp(alg, EXC_C14N) == 0 &&
	       (!prefixes || strlen(prefixes) <= PREFIXES_MAX) &&
	       (!child || (saml_is(child, EXC_C14N, "InclusiveNamespaces") && !saml_next(child) &&
			   !saml_first(child)));
}

static const char *check_transforms(const xmlNode *list)
{
	const xmlNode *first = saml_first(list), *second = first ? saml_next(first) : NULL;
	const char *alg = first ? saml_attr(first, "Algorithm") : NULL;

	if (!second || saml_next(second) || !saml_is(first, DSIG_NS, "Transform") ||
	    !saml_is(second, DSIG_NS, "Transform") || !alg || strcmp(alg, ENVELOPED) != 0 ||
	    saml_first(first) || !is_c14n(second))
		return "the transforms are not enveloped-signature and exclusive canonicalization";
	return NULL;
}

static const char *check_reference(const xmlNode *ref, const char *id)
{
	const xmlNode *transforms = saml_first(ref), *method, *value;
	const char *uri = saml_attr(ref, "URI"), *why;

	if (!saml_is(ref, DSIG_NS, "Reference") || saml_next(ref))
		return "the signature has not just one reference";
	if (!uri || uri[0] != '#' || strcmp(uri + 1, id) != 0)
		return "the signature is about another element than the one it stands in";
	if (!transforms || !saml_is(transforms, DSIG_NS, "Transforms"))
		return "the reference has no transforms";
	why = check_transforms(transforms);
	if (why)
		return why;
	method = saml_next(transforms);
	value = method ? saml_next(method) : NULL;
	if (!value || saml_next(value) || !saml_is(method, DSIG_NS, "DigestMethod") ||
	    !saml_is(value, DSIG_NS, "DigestValue") || !saml_text(value))
		return "the reference is not as XML Signature has it";
	if (saml_first(method) || !listed(digest_methods, ARRAY_SIZE(digest_methods),
					  saml_attr(method, "Algorithm")))
		return "the digest's algorithm is not SHA-256, SHA-384 or SHA-512";
	return NULL;
}

static const char *check_shape(const xmlNode *sig, const char *id)
{
	const xmlNode *info = saml_first(sig), *value = info ? saml_next(info) : NULL;
	const xmlNode *key = value ? saml_next(value) : NULL, *c14n, *method, *ref;

	if (!value || !saml_is(info, DSIG_NS, "SignedInfo") ||
	    !saml_is(value, DSIG_NS, "SignatureValue") || !saml_text(value) ||
	    (key && (!saml_is(key, DSIG_NS, "KeyInfo") || saml_next(key))))
		return "the signature holds other than SignedInfo, SignatureValue and KeyInfo";
	c14n = saml_first(info);
	method = c14n ? saml_next(c14n) : NULL;
	ref = method ? saml_next(method) : NULL;
	if (!ref || !saml_is(c14n, DSIG_NS, "CanonicalizationMethod") ||
	    !saml_is(method, DSIG_NS, "SignatureMethod"))
		return "the signature is not as XML Signature has it";
	if (!is_c14n(c14n))
		return "the canonicalization is not the exclusive one";
	if (saml_first(method) || !listed(signature_methods, ARRAY_SIZE(signature_methods),
					  saml_attr(method, "Algorithm")))
		return "the signature's algorithm is not RSA with SHA-256, SHA-384 or SHA-512";
	return check_reference(ref, id);
}

/* ---------------------------------------------------------------- signature */

static bool restrict_to(xmlSecDSigCtxPtr ctx)
{
	const xmlSecTransformId reference[] = {
		xmlSecTransformEnvelopedId, xmlSecTransformExclC14NId, xmlSecTransformSha256Id,
		xmlSecTransformSha384Id,    xmlSecTransformSha512Id,
	};
	const xmlSecTransformId signature[] = {
		xmlSecTransformExclC14NId,
		xmlSecTransformRsaSha256Id,
		xmlSecTransformRsaSha384Id,
		xmlSecTransformRsaSha512Id,
	};

	for (size_t i = 0; i < ARRAY_SIZE(reference); i++)
		if (xmlSecDSigCtxEnableReferenceTransform(ctx, reference[i]) < 0)
			return false;
	for (size_t i = 0; i < ARRAY_SIZE(signature); i++)
		if (xmlSecDSigCtxEnableSignatureTransform(ctx, signature[i]) < 0)
			return false;
	ctx->enabledReferenceUris = xmlSecTransformUriTypeSameDocument;
	ctx->flags |= XMLSEC_DSIG_FLAGS_STORE_SIGNEDINFO_REFERENCES;
	return true;
}

/* The bytes of the one reference, as they went into the digest. */
static int take_signed(xmlSecDSigCtxPtr ctx, struct buf *ret)
{
	xmlSecDSigReferenceCtxPtr ref;
	xmlSecBufferPtr bytes;

	if (xmlSecPtrListGetSize(&ctx->signedInfoReferences) != 1 ||
	    xmlSecPtrListGetSize(&ctx->manifestReferences) != 0)
		return -EINVAL;
	ref = xmlSecPtrListGetItem(&ctx->signedInfoReferences, 0);
	bytes = ref ? xmlSecDSigReferenceCtxGetPreDigestBuffer(ref) : NULL;
	if (!bytes || !xmlSecBufferGetData(bytes))
		return -EINVAL;
	return ret ? buf_append(ret, xmlSecBufferGetData(bytes), xmlSecBufferGetSize(bytes)) : 0;
}

static bool verifies(xmlNode *sig, xmlSecKeyPtr key, struct buf *ret_signed)
{
	xmlSecDSigCtxPtr ctx = xmlSecDSigCtxCreate(NULL);
	bool ok = false;

	if (!ctx)
		return false;
	/* With a key given, KeyInfo is not looked at. */
	ctx->signKey = xmlSecKeyDuplicate(key);
	if (ctx->signKey && restrict_to(ctx) && xmlSecDSigCtxVerify(ctx, sig) >= 0 &&
	    ctx->status == xmlSecDSigStatusSucceeded)
		ok = take_signed(ctx, ret_signed) == 0;
	xmlSecDSigCtxDestroy(ctx);
	ERR_clear_error();
	return ok;
}

/* The only signature among the children; NULL: there is not exactly one. */
static xmlNode *own_signature(const xmlNode *node)
{
	xmlNode *found = NULL;

	for (xmlNode *n = saml_first(node); n; n = saml_next(n)) {
		if (!saml_is(n, DSIG_NS, "Signature"))
			continue;
		if (found)
			return NULL;
		found = n;
	}
	return found;
}

/* It becomes part of an XPointer in the library: nothing but letters, digits and `_-.`. */
static bool plain_id(const char *id)
{
	static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
	size_t n = id ? strlen(id) : 0;

	return n && n <= 128 && strchr(first, id[0]) &&
	       strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789.-") == n;
}

const char *saml_signed(xmlNode *node, const struct saml_keys *keys, struct buf *ret_signed)
{
	xmlAttr *attr = xmlHasNsProp(node, BAD_CAST "ID", NULL);
	const char *id = saml_attr(node, "ID"), *why;
	xmlNode *sig = own_signature(node);

	if (!attr || !plain_id(id))
		return "the signed element has no usable ID";
	if (!sig)
		return "not exactly one signature in the signed element";
	why = check_shape(sig, id);
	if (why)
		return why;
	/* Nothing else in the document is an ID for the library: there is no DTD. */
	if (!xmlAddID(NULL, node->doc, BAD_CAST id, attr) ||
	    xmlGetID(node->doc, BAD_CAST id) != attr)
		return "an ID that is there twice";
	for (unsigned i = 0; i < keys->n; i++)
		if (verifies(sig, keys->key[i], ret_signed))
			return NULL;
	return "the signature does not verify with a configured certificate";
}
