/* SPDX-License-Identifier: MIT */
/* tidegate version: what this build is made of. */
#include "ctl/ctl.h"

#include <bpf/libbpf.h>
#include <pg_query.h>
#include <zstd.h>

#include "base/jsonw.h"
#include "tidegate_abi.h"

int cmd_version(struct ctl *c, int argc, char **argv)
{
	static const struct ctl_cmd cmd = {"", NULL, "", ""};
	const struct {
		const char *name, *version;
	} libs[] = {
		{"libbpf", libbpf_version_string()},
		{"jansson", jansson_version_str()},
		{"zstd", ZSTD_versionString()},
		{"PostgreSQL grammar", PG_VERSION},
	};
	struct buf out;
	struct jsonw w;
	int rc;

	c->object = "version";
	c->cmd = &cmd;
	rc = ctl_args(c, &argc, argv, NULL, 0, 0, 0);
	if (rc)
		return rc;
	if (!c->json) {
		out_text(c, "tidegate %s\ncontrol protocol %d, map layout %s\nlibraries:",
			 TIDEGATE_VERSION, TG_CTL_VERSION, TG_ABI_VERSION);
		for (size_t i = 0; i < ARRAY_SIZE(libs); i++)
			out_text(c, "%s %s %s", i ? "," : "", libs[i].name, libs[i].version);
		out_text(c, "\n");
		return CTL_OK;
	}
	buf_init(&out, 4096);
	jsonw_init(&w, &out, c->pretty);
	jsonw_object(&w);
	jsonw_kv_string(&w, "version", TIDEGATE_VERSION);
	jsonw_kv_u64(&w, "control_protocol", TG_CTL_VERSION);
	jsonw_kv_string(&w, "map_layout", TG_ABI_VERSION);
	jsonw_name(&w, "libraries");
	jsonw_object(&w);
	for (size_t i = 0; i < ARRAY_SIZE(libs); i++)
		jsonw_kv_string(&w, libs[i].name, libs[i].version);
	jsonw_object_end(&w);
	jsonw_object_end(&w);
	rc = jsonw_end(&w) ? CTL_FAILED : out_json_text(c, buf_slice(&out));
	buf_done(&out);
	return rc;
}
