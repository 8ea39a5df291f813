# A short front to CMake and Ninja: `make help` lists the targets.
PREFIX ?= /usr/local
JOBS := $(shell nproc)
MODEL = $(wildcard models/*.gguf)
PACKAGES := gcc libc6-dev cmake ninja-build

# Make's own default is cc; what the caller sets is taken.
ifeq ($(origin CC),default)
CC := gcc
endif
export CC

.PHONY: help demo test docs release install format clean

help:
	@echo 'make demo     install what is missing, build, run the example and the model'
	@echo 'make test     install what is missing, build with every check, run all tests'
	@echo 'make docs     the reference of the public headers, in build/docs/html'
	@echo 'make release  the optimised build, in build/release'
	@echo 'make install  copy the release build to PREFIX ($(PREFIX))'
	@echo 'make format   let clang-format rewrite the C files'
	@echo 'make clean    remove build/'

release:
	@scripts/need.sh $(PACKAGES)
	cmake --preset release
	cmake --build --preset release --parallel $(JOBS)

demo: release
	@test $(words $(MODEL)) = 1 || { echo 'models/ must hold exactly one .gguf file' >&2; exit 1; }
	build/release/examples/five_parts
	build/release/weir run $(MODEL) -p "Once upon a time" -n 128 --temp 0.7 --seed 1

test:
	@scripts/need.sh $(PACKAGES) pkgconf libcmocka-dev xz-utils
	cmake --preset dev
	cmake --build --preset dev --parallel $(JOBS)
	@scripts/run_tests.sh build/dev

docs:
	@scripts/need.sh doxygen python3
	@rm -rf build/docs && mkdir -p build/docs
	doxygen docs/Doxyfile
	@scripts/check_docs.py

install: release
	cmake --install build/release --prefix $(PREFIX)

format:
	@scripts/need.sh git clang-format
	git ls-files -z --cached --others --exclude-standard -- '*.c' '*.h' | \
	    xargs -0 clang-format --style=file -i

clean:
	rm -rf build
