/* SPDX-License-Identifier: MIT */
#include "daemon/childconf.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/memfd.h"

struct config *childconf_take(int fd)
{
	struct config *cfg = NULL;
	struct slice text;
	struct buf error;
	int err = memfd_map(fd, &text);

	buf_init(&error, 65536);
	if (!err) {
		err = config_parse(text, "tidegate.yaml", &cfg, &error);
		memfd_unmap(text);
	}
	if (err) {
		log_error("the parent's configuration is not accepted: %.*s", (int)error.n,
			  error.n ? (const char *)buf_data(&error) : strerror(-err));
		exit(1);
	}
	buf_done(&error);
	(void)close(fd);
	log_configure(cfg->log_level);
	return cfg;
}
