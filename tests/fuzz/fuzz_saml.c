/* SPDX-License-Identifier: MIT */
/*
 * An assertion from anybody, judged at a fixed time with the certificate of the corpus. The
 * first byte: `R` a Response is expected, `B` base64 around it. What is accepted keeps its rules.
 */
#include <stdlib.h>

#include "ident/saml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NOW = 1700000100, SKEW = 30, LIFETIME = 3600 };

static const char certificate[] =
	"-----BEGIN CERTIFICATE-----\n"
	"MIIDBzCCAe+gAwIBAgIUPI+J8IXdtOoPi9J4Pv8ZZKRgsugwDQYJKoZIhvcNAQEL\n"
	"BQAwEzERMA8GA1UEAwwIc2FtbC1pZHAwHhcNMjYxMTI0MTIzNTA4WhcNMzYxMTIx\n"
	"MTIzNTA4WjATMREwDwYDVQQDDAhzYW1sLWlkcDCCASIwDQYJKoZIhvcNAQEBBQAD\n"
	"ggEPADCCAQoCggEBAKry7Lt7iS4tffAfirxaOc2Y7fzWOEIXQX8gVQ5bzP40ebzP\n"
	"EqRMn+5CwUbOMTLc5gnUiUgQPjcpF4npewrEDdJr5Il2unSyLzZxZ+DBOFvXEuTI\n"
	"SUfdFYClt0U40o9iTkHYzL3mkyvGtBB2yWfCk/Jylk4KtT6NTUoQnew1cHJCfKRm\n"
	"E2RMwKPOeWSUMKXXgqLWS7yjj653BIscvssMgPH7pq/5Ypq7d6UNuw68+auBavk8\n"
	"Uo/eTwWm4W03dVVHmBfApGrjsIS3Aaeosmj8lOBTIW5SIqmQ8gBKTfsL6lTJ/ju/\n"
	"lBM/xa4swMMtpObKC44qJqr0bRYeia7PXrVKAscCAwEAAaNTMFEwHQYDVR0OBBYE\n"
	"FNSDtwTIeh14F3afB2M2Dyeb0LPKMB8GA1UdIwQYMBaAFNSDtwTIeh14F3afB2M2\n"
	"Dyeb0LPKMA8GA1UdEwEB/wQFMAMBAf8wDQYJKoZIhvcNAQELBQADggEBAHVJnLlJ\n"
	"Sj0x1UkZQkG8zZxM4i7DH13DtJ+PKMjt/BLWh+ENt/IzQUAgUZNONgn4qlSqepQs\n"
	"Zc8QWKcZb+29Z9HCZxRJug/sLSZppe1h+D++UcBNzW2Oc1INERiHgNoKCs31yQyD\n"
	"7Cb5dif/wLBWjlbwB1F1An3OixVOWCJHa4vhn+gPzbQMKkwy0AMkArMzY1QyqOWt\n"
	"o8rlmEYOmMFgvY6cbsq9pALyag3LRHZv2wxjW+y7ohZPPi4DgVkVfLw/IiHfKfHE\n"
	"asY90V1Mnx6zTWbUsvGIR363XvZAZfHZKnqz8kXH8+k5bWSQOkGjiD0TZ+/PXAQ+\n"
	"TVlwbHhShrJ7Bvo=\n"
	"-----END CERTIFICATE-----\n";

static struct saml_keys *issuer_keys(void)
{
	static struct saml_keys *keys;
	char error[200];

	if (!keys) {
		BUG_ON(saml_init() != 0);
		BUG_ON(saml_keys_parse(slice_str(certificate), &keys, error, sizeof(error)) != 0);
	}
	return keys;
}

static void judge(struct slice xml, bool response)
{
	const struct saml_rules rules = {
		.issuer = "https://idp.example/saml",
		.audience = "https://db.example/guard",
		.recipient = "https://db.example/guard/acs",
		.response = response,
		.now_s = NOW,
		.skew_s = SKEW,
		.lifetime_s = LIFETIME,
	};
	struct saml_assertion a = {0};
	char error[200] = "";

	if (saml_verify(xml, issuer_keys(), &rules, &a, error, sizeof(error)) != 0) {
		BUG_ON(!error[0]);
		return;
	}
	BUG_ON(!a.id[0] || !a.subject[0] || a.issued_s > NOW + SKEW || a.until_s + SKEW <= NOW ||
	       a.until_s > a.issued_s + LIFETIME);
	/* The issuer of the corpus signed nothing else. */
	BUG_ON(strcmp(a.subject, "dba-alice") != 0 &&
	       strcmp(a.subject, "dba-alice.evil.example") != 0);
	saml_assertion_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest = slice_from(slice_of(data, size), 1);
	struct buf xml;

	if (size == 0)
		return 0;
	if (data[0] != 'B') {
		judge(rest, data[0] == 'R');
		return 0;
	}
	buf_init(&xml, SAML_MAX);
	if (saml_decode(rest, &xml) == 0)
		judge(buf_slice(&xml), false);
	buf_done(&xml);
	return 0;
}
