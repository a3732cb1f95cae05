/* SPDX-License-Identifier: MIT */
/* What tests of the configuration share: files from pieces, and what is said to them. */
#ifndef TIDEGATE_TESTS_CONFIG_RIG_H
#define TIDEGATE_TESTS_CONFIG_RIG_H

#include "config/config.h"

/* A file that is right, in three lines: agents, targets, policy. */
#define A     "agents: {a: {uid: 1}}\n"
#define T     "targets: {t: {address: \"h:1\", protocol: postgresql}}\n"
#define P     "policy: [{agents: a, targets: t, access: {approval: none}}]\n"
#define TT(x) "targets: {t: {address: \"h:1\", protocol: postgresql, " x "}}\n"
#define AD(x) "targets: {t: {address: " x ", protocol: postgresql}}\n"
#define PP(x) "policy: [{agents: a, targets: t, access: {approval: none}, " x "}]\n"
#define AC(x) "policy: [{agents: a, targets: t, access: {" x "}}]\n"
#define CM(x) PP("commands: [{" x "}]")
#define MA(x) PP("mask: [{" x "}]")
#define IDP(x)                                                                                     \
	"idp: {issuer: \"https://i\", client: {id: c, key_file: /k}, " x "}\n" A T P

struct config_bad {
	const char *text;
	const char *said; /* exactly; lines without "t.yaml:" */
};

/* The text ends at a guard page. */
int config_text(const char *text, size_t n, struct config **ret, char *said, size_t cap);
struct config *config_good(const char *text);
void config_bad(const struct config_bad *rows, size_t n);

#endif
