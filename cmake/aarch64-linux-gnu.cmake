# Builds for 64-bit Arm with the cross compiler of Debian; tests run under QEMU.
#
#     cmake -S . -B build/arm64 -G Ninja --toolchain cmake/aarch64-linux-gnu.cmake
#
# WEIR_CROSS_ROOT is a folder with the other arm64 packages that are needed, unpacked: cmocka for
# the tests (scripts/check_arm64.sh makes one). WEIR_CROSS_CPU is the processor for QEMU to be.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES WEIR_CROSS_ROOT)

set(WEIR_CROSS_ROOT "" CACHE PATH "Unpacked arm64 packages")
set(WEIR_CROSS_CPU max CACHE STRING "What QEMU emulates")
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -cpu ${WEIR_CROSS_CPU} -L /usr/aarch64-linux-gnu)

set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu ${WEIR_CROSS_ROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_LIBDIR} ${WEIR_CROSS_ROOT}/usr/lib/aarch64-linux-gnu/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${WEIR_CROSS_ROOT})
