# Builds smi-pagekeeper: static, against musl, as smi-init. Included by the Makefile.
OUT ?= out
MUSL_CC ?= musl-gcc

$(OUT)/libexec/smirun/smi-pagekeeper: Sources/smi-pagekeeper/main.c Sources/smi-pagekeeper/build.mk
	@mkdir -p $(@D)
	$(MUSL_CC) -std=gnu17 -O2 -Wall -Wextra -Werror -static -s -o $@.new $<
	@mv $@.new $@
