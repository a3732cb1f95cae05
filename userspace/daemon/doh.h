/* SPDX-License-Identifier: MIT */
/* Well-known DNS-over-HTTPS services: names that agents cannot look up, and addresses. */
#ifndef TIDEGATE_DAEMON_DOH_H
#define TIDEGATE_DAEMON_DOH_H

/* NULL-terminated; what is below them is meant too. */
extern const char *const doh_names[];
/* NULL-terminated literal addresses; port 443 of each is refused. */
extern const char *const doh_addresses[];

#endif
