# smirun: `make demo` and `make test` do everything on a fresh machine, as root.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

CONFIG ?= debug
PREFIX ?= /usr/local
OUT := out
LIBEXEC := $(OUT)/libexec/smirun
# A release binary holds Swift's libraries: it starts in half the time and needs no toolchain where it is installed.
SWIFT_BUILD = swift build --configuration $(CONFIG) $(if $(filter release,$(CONFIG)),--static-swift-stdlib)
BIN = $(shell swift build --configuration $(CONFIG) --show-bin-path)
SWIFT_SOURCES := Package.swift Sources Tests Benchmarks

.PHONY: setup setup-test build build-tests helpers stage demo test bench stress format lint check hooks install clean

setup:
	@scripts/stage "set-up" scripts/setup build

setup-test:
	@scripts/stage "set-up" scripts/setup test

build: setup helpers
	@scripts/stage "build" $(SWIFT_BUILD) --product smirun
	@$(MAKE) --no-print-directory stage

# The tests' build contains the product's: one build serves both.
build-tests: setup-test helpers
	@scripts/stage "build" $(SWIFT_BUILD) --build-tests
	@$(MAKE) --no-print-directory stage

helpers: $(LIBEXEC)/smi-init $(LIBEXEC)/smi-pagekeeper $(LIBEXEC)/libsmirun-criu.so

include Sources/smi-init/build.mk
include Sources/CCriuPreload/build.mk
include Sources/smi-pagekeeper/build.mk

# The build tree as an installed prefix: the binary finds ../libexec/smirun from its own place.
stage:
	@mkdir -p $(OUT)/bin
	@ln -sfn "$(BIN)/smirun" $(OUT)/bin/smirun

demo: build
	@scripts/stage "demo" $(OUT)/bin/smirun demo

test: build-tests
	@scripts/run-tests

# All figures of docs/benchmarks.md, of a release build; about 25 minutes after the build.
bench: CONFIG := release
bench: setup-test helpers
	@scripts/stage "release build" $(SWIFT_BUILD) --product smirun
	@scripts/bench "$(BIN)/smirun"

# Suites that need a machine of their own.
stress: build-tests
	@swift test --skip-build --no-parallel --filter 'Flood'

format:
	@swift format --in-place --recursive --parallel Package.swift Sources Tests
	@git ls-files 'Sources/*.c' 'Sources/*.h' 'Tests/*.c' 'images/*.c' 'images/*.h' | xargs -r clang-format -i

lint:
	@swift format lint --strict --recursive --parallel Package.swift Sources Tests
	@git ls-files 'Sources/*.c' 'Sources/*.h' 'Tests/*.c' 'images/*.c' 'images/*.h' | xargs -r clang-format --dry-run --Werror
	@scripts/check-sizes

check: lint build-tests

hooks:
	@printf '#!/bin/sh\nexec make --no-print-directory lint\n' > .git/hooks/pre-commit
	@chmod +x .git/hooks/pre-commit

install: CONFIG := release
install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/smirun
	install -m 755 "$(BIN)/smirun" $(DESTDIR)$(PREFIX)/bin/smirun
	install -m 755 $(LIBEXEC)/smi-init $(LIBEXEC)/libsmirun-criu.so $(DESTDIR)$(PREFIX)/libexec/smirun/

clean:
	rm -rf .build $(OUT)
