# Builds smi-init: static, against musl, so that it needs nothing of the image that it runs in.
# Included by the Makefile, or run alone: make -f Sources/smi-init/build.mk OUT=out
OUT ?= out
MUSL_CC ?= musl-gcc
SMI_INIT_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
SMI_INIT_SOURCES := $(wildcard $(SMI_INIT_DIR)/*.c)
SMI_INIT := $(OUT)/libexec/smirun/smi-init
SMI_INIT_CFLAGS := -std=gnu17 -O2 -Wall -Wextra -Werror -static -s -ffunction-sections -fdata-sections \
	-fstack-protector-strong -D_FORTIFY_SOURCE=2 -Wl,--gc-sections

.PHONY: smi-init
smi-init: $(SMI_INIT)

$(SMI_INIT): $(SMI_INIT_SOURCES) $(wildcard $(SMI_INIT_DIR)/*.h) $(SMI_INIT_DIR)/build.mk
	@mkdir -p $(dir $@)
	$(MUSL_CC) $(SMI_INIT_CFLAGS) -o $@.tmp $(SMI_INIT_SOURCES)
	@mv $@.tmp $@
