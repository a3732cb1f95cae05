/* SPDX-License-Identifier: MIT */
/* Names of cgroups as runtimes make them, and their files about images. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/container.h"

#define ID  "5b1c2d3e4f5061728394a5b6c7d8e9f05b1c2d3e4f5061728394a5b6c7d8e9f0"
#define ID2 "0000000000000000000000000000000000000000000000000000000000000001"
#define POD "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"

static void test_parse(void **state)
{
	static const struct {
		const char *cgroup, *id, *runtime, *pod;
	} rows[] = {
		{"/", "", "", ""},
		{"", "", "", ""},
		{"/agents.slice/agent.service", "", "", ""},
		{"/agents.slice/docker-" ID ".scope", ID, "docker", ""},
		{"/docker/" ID, ID, "docker", ""},
		{"/docker/" ID "/init.scope", ID, "docker", ""},
		{"/machine.slice/libpod-" ID ".scope/container", ID, "podman", ""},
		{"/libpod_parent/libpod-" ID, ID, "podman", ""},
		{"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ID ".scope", ID,
		 "podman", ""},
		{"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"
		 "0b1c2d3e_4f50_6172_8394_a5b6c7d8e9f0.slice/cri-containerd-" ID ".scope",
		 ID, "containerd", POD},
		{"/kubepods.slice/kubepods-pod0b1c2d3e_4f50_6172_8394_a5b6c7d8e9f0.slice/crio-" ID
		 ".scope",
		 ID, "crio", POD},
		{"/kubepods/besteffort/pod" POD "/" ID, ID, "", POD},
		{"/kubepods/besteffort/podxyz/" ID, ID, "", ""},
		{"/a/" ID, ID, "", ""},
		/* too long and too short are none */
		{"/docker-" ID "0.scope", "", "", ""},
		{"/docker-5b1c2d3e4f50.scope", "", "", ""},
		{"/docker-5B1C2D3E4F5061728394A5B6C7D8E9F05B1C2D3E4F5061728394A5B6C7D8E9F0.scope", "", "",
		 ""},
		/* what an agent makes below its own container is not believed */
		{"/docker-" ID ".scope/docker-" ID2 ".scope", ID, "docker", ""},
		{"/agents.slice/docker-" ID ".scope/pod" POD "/" ID2, ID, "docker", ""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct container c;

		container_parse(rows[i].cgroup, &c);
		assert_string_equal(c.id, rows[i].id);
		assert_string_equal(c.runtime, rows[i].runtime);
		assert_string_equal(c.pod, rows[i].pod);
		assert_string_equal(c.image, "");
	}
}

static void test_image(void **state)
{
	static const struct {
		bool podman;
		const char *text, *image;
	} rows[] = {
		{false, "{\"ID\":\"" ID "\",\"Config\":{\"Image\":\"postgres:16\"}}", "postgres:16"},
		{false, "{\"Config\":{\"Image\":7}}", ""},
		{false, "{\"Config\":[]}", ""},
		{false, "[", ""},
		{false, "", ""},
		{true,
		 "[{\"id\":\"" ID2 "\",\"metadata\":\"{\\\"image-name\\\":\\\"other\\\"}\"},"
		 "{\"id\":\"" ID "\",\"metadata\":\"{\\\"image-name\\\":\\\"localhost/agent:1\\\"}\"}]",
		 "localhost/agent:1"},
		{true, "[{\"id\":\"" ID2 "\",\"metadata\":\"{\\\"image-name\\\":\\\"other\\\"}\"}]", ""},
		{true, "[{\"id\":\"" ID "\",\"metadata\":\"nonsense\"}]", ""},
		{true, "[{\"id\":\"" ID "\"}]", ""},
		{true, "[7, null, {}]", ""},
		{true, "{}", ""},
		{true, "", ""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct container c = {.id = ID};
		struct slice text = slice_str(rows[i].text);
		bool found = rows[i].podman ? container_image_podman(text, &c)
					    : container_image_docker(text, &c);

		assert_int_equal(found, rows[i].image[0] != '\0');
		assert_string_equal(c.image, rows[i].image);
	}
}

/* Not there, or of no known runtime: unknown, and no error. */
static void test_no_file(void **state)
{
	struct container c;

	container_parse("/docker/" ID, &c);
	container_image(&c);
	assert_string_equal(c.image, "");
	container_parse("/kubepods/pod" POD "/" ID, &c);
	container_image(&c);
	assert_string_equal(c.image, "");
	container_parse("/", &c);
	container_image(&c);
	assert_string_equal(c.id, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_image),
		cmocka_unit_test(test_no_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
