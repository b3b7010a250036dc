# The library preloaded into CRIU (through ld.so --preload, or LD_PRELOAD where the system's own CRIU is used).
CRIU_PRELOAD_SOURCES := $(wildcard Sources/CCriuPreload/*.c)
CRIU_PRELOAD_CFLAGS := -std=gnu17 -O2 -Wall -Wextra -Werror -fPIC -fvisibility=hidden

out/libexec/smirun/libsmirun-criu.so: $(CRIU_PRELOAD_SOURCES) Sources/CCriuPreload/preload.h \
		Sources/CLinux/include/smi_inherit.h
	@mkdir -p $(@D)
	$(CC) $(CRIU_PRELOAD_CFLAGS) -shared -Wl,-soname,libsmirun-criu.so -Wl,-z,defs -o $@.new $(CRIU_PRELOAD_SOURCES)
	@mv $@.new $@
