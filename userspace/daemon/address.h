/* SPDX-License-Identifier: MIT */
/* Socket addresses as text: "10.0.0.1:5432", "[2001:db8::1]:5432". Literals only. */
#ifndef TIDEGATE_DAEMON_ADDRESS_H
#define TIDEGATE_DAEMON_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include <stdbool.h>

#include "base/compiler.h"

enum { ADDRESS_TEXT = 64 };

/* 0 or -EINVAL. */
MUST_CHECK int address_parse(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len);
void address_format(const struct sockaddr *sa, char dst[ADDRESS_TEXT]);
/* @addr: 16 bytes, IPv4 as v4-mapped, which is shown as IPv4. */
void address_format_mapped(const uint8_t addr[16], uint16_t port, char dst[ADDRESS_TEXT]);
/* The address of @sa as 16 bytes. */
void address_mapped(const struct sockaddr *sa, uint8_t ret[16]);
/*
 * Each of @list ("address:port" or "unix:PATH", with spaces between) is on this host, where nobody
 * else can read along.
 */
bool address_all_local(const char *list);
/* "10.0.0.0/8" or a bare address contains @addr. */
bool address_in_cidr(const char *cidr, const uint8_t addr[16]);

#endif
