/* SPDX-License-Identifier: MIT */
/* Which inspectors there are, and the names of detectors and masks. */
#include "inspect/inspect.h"

const struct inspector *const inspectors[] = {
	&inspector_postgresql,
	&inspector_tcp,
	NULL,
};

const struct inspector *inspector_find(struct slice name)
{
	for (size_t i = 0; inspectors[i]; i++)
		if (slice_eq_str(name, inspectors[i]->name))
			return inspectors[i];
	return NULL;
}

static const char *const detectors[] = {
#define X(name, text) [DETECT_BIT_##name] = text,
	DETECTORS(X)
#undef X
};

const char *detector_name(enum detector_bit bit)
{
	return (unsigned)bit < ARRAY_SIZE(detectors) ? detectors[bit] : NULL;
}

int detector_parse(struct slice name)
{
	for (size_t i = 0; i < ARRAY_SIZE(detectors); i++)
		if (slice_eq_str(name, detectors[i]))
			return (int)i;
	return -1;
}

static const char *const hows[] = {
	[MASK_NONE] = "none", [MASK_REDACT] = "redact", [MASK_LAST4] = "last4",
	[MASK_HASH] = "hash", [MASK_NULL] = "null",
};

const char *mask_how_name(enum mask_how how)
{
	return (unsigned)how < ARRAY_SIZE(hows) ? hows[how] : NULL;
}

int mask_how_parse(struct slice name)
{
	for (size_t i = 0; i < ARRAY_SIZE(hows); i++)
		if (slice_eq_str(name, hows[i]))
			return (int)i;
	return -1;
}
