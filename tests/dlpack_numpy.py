#!/usr/bin/env python3
"""Shares memory between libweir and NumPy or PyTorch, both ways, through DLPack capsules.

    tests/dlpack_numpy.py LIBWEIR numpy|torch

Ends with 77, which is skipped, and says why where the module cannot be imported or is older than
DLPack 1.0.
"""

import ctypes
import gc
import importlib
import sys
import unittest
import weakref

VERSIONED = b"dltensor_versioned"
LEGACY = b"dltensor"
# The order of weir/dtype.h: the names that NumPy and PyTorch give to the plain types, then blocks.
DTYPES = ("float32 float16 bfloat16 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 "
          "bool").split()
F32, U8, Q4_0 = 1, 9, 14
RANK_MAX = 8


class Shape(ctypes.Structure):
    _fields_ = [("rank", ctypes.c_uint32), ("dims", ctypes.c_int64 * RANK_MAX)]


class View(ctypes.Structure):
    _fields_ = [("storage", ctypes.c_void_p), ("byte_offset", ctypes.c_uint64),
                ("dtype", ctypes.c_int), ("shape", Shape), ("strides", ctypes.c_int64 * RANK_MAX)]


class DeviceDesc(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("rest", ctypes.c_void_p * 16)]  # zeros: defaults


ReleaseFn = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


class WrapDesc(ctypes.Structure):
    _fields_ = [("pointer", ctypes.c_void_p), ("byte_size", ctypes.c_uint64),
                ("sealed", ctypes.c_bool), ("release", ReleaseFn), ("context", ctypes.c_void_p),
                ("name", ctypes.c_char_p)]


class DlTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device", ctypes.c_int32 * 2),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64)]


DeleterFn = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class DlVersioned(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32 * 2), ("context", ctypes.c_void_p),
                ("deleter", DeleterFn), ("flags", ctypes.c_uint64), ("tensor", DlTensor)]


class DlManaged(ctypes.Structure):
    _fields_ = [("tensor", DlTensor), ("context", ctypes.c_void_p), ("deleter", DeleterFn)]


FORMS = {VERSIONED: DlVersioned, LEGACY: DlManaged}

api = ctypes.pythonapi
api.PyCapsule_New.restype = ctypes.py_object
api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
api.PyCapsule_GetPointer.restype = ctypes.c_void_p
api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_IsValid.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
USED = {name: b"used_" + name for name in FORMS}  # capsules keep the pointer, not the text

# A destructor sees a capsule that is being destroyed: it must not be given as an object, which
# would count its references again.
capsule_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_GetName", api))
capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", api))


@ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
def destroy_capsule(capsule):
    """Calls the deleter of a tensor that nobody took."""
    name = capsule_name(capsule)
    if name in FORMS:
        address = capsule_pointer(capsule, name)
        FORMS[name].from_address(address).deleter(address)


class Weir:
    """The few functions of libweir that are called here."""

    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.lib.weir_last_error.restype = ctypes.c_char_p
        self.lib.weir_view_contents.restype = ctypes.c_void_p
        self.lib.weir_storage_is_sealed.restype = ctypes.c_bool
        for name in ("weir_storage_release", "weir_view_release", "weir_device_destroy"):
            getattr(self.lib, name).restype = None
        self.device = ctypes.c_void_p()
        desc = DeviceDesc(name=b"null")
        self.call("weir_device_create", ctypes.byref(desc), ctypes.byref(self.device))

    def call(self, name, *arguments):
        status = getattr(self.lib, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name}: {self.lib.weir_last_error().decode()} ({status})")

    def close(self):
        self.lib.weir_device_destroy(self.device)

    def make_view(self, storage, byte_offset, dtype, dims):
        shape = Shape(len(dims), (ctypes.c_int64 * RANK_MAX)(*dims))
        view = View()
        self.call("weir_view_make", storage, ctypes.c_uint64(byte_offset), dtype,
                  ctypes.byref(shape), ctypes.byref(view))
        return view

    def contents(self, view):
        return self.lib.weir_view_contents(ctypes.byref(view))

    def take(self, producer, legacy=False):
        """Imports what a Python object exports; the view owns it."""
        capsule = producer.__dlpack__() if legacy else producer.__dlpack__(max_version=(1, 1))
        name = LEGACY if legacy else VERSIONED
        if not api.PyCapsule_IsValid(capsule, name):
            raise RuntimeError(f"the producer gave {capsule!r}, expected {name.decode()}")
        view = View()
        self.call("weir_dlpack_import_legacy" if legacy else "weir_dlpack_import", self.device,
                  ctypes.c_void_p(api.PyCapsule_GetPointer(capsule, name)), ctypes.byref(view))
        api.PyCapsule_SetName(capsule, USED[name])
        return view


class Exported:
    """A view of libweir as NumPy and PyTorch take it; counts the capsules it gave."""

    def __init__(self, weir, view, legacy=False):
        self.weir, self.view, self.legacy = weir, view, legacy

    def __dlpack_device__(self):
        return 1, 0

    def __dlpack__(self, **_options):
        tensor = ctypes.c_void_p()
        name = LEGACY if self.legacy else VERSIONED
        self.weir.call("weir_dlpack_export_legacy" if self.legacy else "weir_dlpack_export",
                       ctypes.byref(self.view), ctypes.byref(tensor))
        return api.PyCapsule_New(tensor, name, ctypes.cast(destroy_capsule, ctypes.c_void_p))


class Memory:
    """Bytes of the test, wrapped by libweir; says how often they were released."""

    def __init__(self, weir, byte_size, sealed=False):
        self.bytes = (ctypes.c_uint8 * byte_size)()
        self.address = ctypes.addressof(self.bytes)
        self.released = 0
        self.callback = ReleaseFn(self.count)
        desc = WrapDesc(self.address, byte_size, sealed, self.callback, None, b"python")
        self.storage = ctypes.c_void_p()
        weir.call("weir_storage_wrap", weir.device, ctypes.byref(desc), ctypes.byref(self.storage))

    def count(self, _context, _pointer):
        self.released += 1


class Numpy:
    """What differs between the libraries."""

    def __init__(self, module):
        self.module = module
        self.kinds = {number: getattr(module, name) for number, name in enumerate(DTYPES, 1)
                      if hasattr(module, name)}  # NumPy has no bfloat16
        self.from_dlpack = module.from_dlpack

    def address(self, array):
        return array.ctypes.data

    def strides(self, array):
        return tuple(stride // array.itemsize for stride in array.strides)

    def numbers(self, count):
        return self.module.arange(count, dtype=self.module.float32)


class Torch(Numpy):
    def address(self, array):
        return array.data_ptr()

    def strides(self, array):
        return tuple(array.stride())


class Sharing:
    """What holds with both libraries."""

    weir = None
    library = None  # Numpy or Torch

    def floats(self, address, count):
        return (ctypes.c_float * count).from_address(address)

    def test_export_shares_memory_and_releases_it_once(self):
        for legacy in (False, True):
            memory = Memory(self.weir, 256)
            view = self.weir.make_view(memory.storage, 64, F32, (3, 4))
            array = self.library.from_dlpack(Exported(self.weir, view, legacy))
            self.weir.lib.weir_storage_release(memory.storage)
            self.assertEqual(self.library.address(array), memory.address + 64)
            self.assertEqual(tuple(array.shape), (3, 4))
            self.floats(memory.address + 64, 12)[5] = 2.5
            self.assertEqual(float(array[1, 1]), 2.5)
            if not legacy or self.library.__class__ is Torch:  # old capsules: NumPy never writes
                array[2, 3] = -7
                self.assertEqual(self.floats(memory.address + 64, 12)[11], -7)
            part = array[1:]
            del array
            gc.collect()
            self.assertEqual(memory.released, 0)  # a slice holds it still
            del part
            gc.collect()
            self.assertEqual(memory.released, 1)

    def test_dtypes_and_strides_arrive(self):
        memory = Memory(self.weir, 512)
        for dtype, kind in self.library.kinds.items():
            view = self.weir.make_view(memory.storage, 64, dtype, (2, 3))
            turned = View()
            self.weir.call("weir_view_permute", ctypes.byref(view), (ctypes.c_uint32 * 2)(1, 0),
                           ctypes.byref(turned))
            array = self.library.from_dlpack(Exported(self.weir, turned))
            self.assertEqual(array.dtype, kind)
            self.assertEqual(tuple(array.shape), (3, 2))
            self.assertEqual(self.library.strides(array), (1, 3))
            back = self.weir.take(array)
            self.assertEqual(back.dtype, dtype)
            self.assertEqual(self.weir.contents(back), memory.address + 64)
            self.assertEqual(list(back.strides[:2]), list(turned.strides[:2]))
            self.weir.lib.weir_view_release(ctypes.byref(back))
        view = self.weir.make_view(memory.storage, 0, Q4_0, (2, 64))
        array = self.library.from_dlpack(Exported(self.weir, view))
        self.assertEqual(tuple(array.shape), (2, 36))
        self.assertEqual(array.dtype, self.library.kinds[U8])
        for dims in ((), (0, 5)):
            view = self.weir.make_view(memory.storage, 0, F32, dims)
            array = self.library.from_dlpack(Exported(self.weir, view))
            self.assertEqual(tuple(array.shape), dims)
        del array
        self.weir.lib.weir_storage_release(memory.storage)
        gc.collect()
        self.assertEqual(memory.released, 1)

    def test_a_capsule_that_nobody_takes_is_released(self):
        memory = Memory(self.weir, 64)
        view = self.weir.make_view(memory.storage, 0, F32, (4,))
        capsules = [Exported(self.weir, view, legacy).__dlpack__() for legacy in (False, True)]
        self.weir.lib.weir_storage_release(memory.storage)
        self.assertEqual(memory.released, 0)
        del capsules
        gc.collect()
        self.assertEqual(memory.released, 1)

    def test_import_shares_memory_and_keeps_it_alive(self):
        for legacy in (False, True):
            array = self.library.numbers(12).reshape(3, 4)
            address = self.library.address(array)
            alive = weakref.ref(array)
            view = self.weir.take(array, legacy)
            self.assertEqual(self.weir.contents(view), address)
            self.assertEqual((view.dtype, view.shape.rank), (F32, 2))
            self.assertEqual(tuple(view.shape.dims[:2]), (3, 4))
            self.floats(address, 12)[7] = 70
            self.assertEqual(float(array[1, 3]), 70)
            array[0, 1] = 9
            self.assertEqual(self.floats(self.weir.contents(view), 12)[1], 9)
            del array
            gc.collect()
            self.assertEqual(self.floats(self.weir.contents(view), 12)[7], 70)
            if self.library.__class__ is Numpy:
                self.assertIsNotNone(alive())
            self.weir.lib.weir_view_release(ctypes.byref(view))
            gc.collect()
            self.assertIsNone(alive())

    def test_slices_arrive_with_their_strides(self):
        array = self.library.numbers(24).reshape(4, 6)
        view = self.weir.take(array[1:, 2:5].T)
        self.assertEqual(self.weir.contents(view), self.library.address(array) + 32)
        self.assertEqual(tuple(view.shape.dims[:2]), (3, 3))
        self.assertEqual(tuple(view.strides[:2]), (4, 24))
        self.weir.lib.weir_view_release(ctypes.byref(view))

    def refuse(self, make, reason):
        array = make()
        alive = weakref.ref(array)
        with self.assertRaisesRegex(RuntimeError, reason):
            self.weir.take(array)
        del array
        gc.collect()
        self.assertIsNone(alive())  # the capsule called the deleter

    def test_what_is_refused_still_belongs_to_python(self):
        module = self.library.module
        self.refuse(lambda: module.zeros(4, dtype=module.complex64), "code 5")
        self.refuse(lambda: module.zeros((1,) * 9), "rank 9")

    def test_there_and_back_is_the_same_memory(self):
        memory = Memory(self.weir, 64)
        view = self.weir.make_view(memory.storage, 16, F32, (4,))
        again = self.weir.take(self.library.from_dlpack(Exported(self.weir, view)))
        self.assertEqual(self.weir.contents(again), memory.address + 16)
        self.weir.lib.weir_storage_release(memory.storage)
        gc.collect()
        self.assertEqual(memory.released, 0)
        self.weir.lib.weir_view_release(ctypes.byref(again))
        gc.collect()
        self.assertEqual(memory.released, 1)


class NumpySharing(Sharing, unittest.TestCase):
    def test_negative_strides_are_refused(self):
        self.refuse(lambda: self.library.numbers(4)[::-1], "below 0")

    def test_sealed_memory_is_read_only(self):
        memory = Memory(self.weir, 64, sealed=True)
        view = self.weir.make_view(memory.storage, 0, F32, (4,))
        array = self.library.from_dlpack(Exported(self.weir, view))
        self.assertEqual(array.ctypes.data, memory.address)
        self.assertFalse(array.flags.writeable)
        with self.assertRaises(ValueError):
            array[0] = 1
        with self.assertRaisesRegex(RuntimeError, "read-only"):
            Exported(self.weir, view, legacy=True).__dlpack__()
        del array
        self.weir.lib.weir_storage_release(memory.storage)
        gc.collect()
        self.assertEqual(memory.released, 1)

    def test_unsealed_memory_is_writable(self):
        memory = Memory(self.weir, 64)
        view = self.weir.make_view(memory.storage, 0, F32, (4,))
        array = self.library.from_dlpack(Exported(self.weir, view))
        self.assertTrue(array.flags.writeable)
        self.weir.lib.weir_storage_release(memory.storage)

    def test_read_only_arrays_are_sealed(self):
        array = self.library.numbers(4)
        for writeable in (True, False):
            array.flags.writeable = writeable
            view = self.weir.take(array)
            sealed = self.weir.lib.weir_storage_is_sealed(ctypes.c_void_p(view.storage))
            self.assertEqual(sealed, not writeable)
            self.weir.lib.weir_view_release(ctypes.byref(view))


class TorchSharing(Sharing, unittest.TestCase):
    pass


CASES = {"numpy": (Numpy, NumpySharing), "torch": (Torch, TorchSharing)}


def knows_versions(module):
    """Tells whether a library speaks DLPack 1.0: NumPy since 2.1."""
    try:
        return api.PyCapsule_IsValid(module.zeros(1).__dlpack__(max_version=(1, 1)), VERSIONED)
    except TypeError:
        return False


def main():
    if len(sys.argv) != 3 or sys.argv[2] not in CASES:
        print(__doc__, file=sys.stderr)
        return 64
    name = sys.argv[2]
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        print(f"skipped: {sys.executable} cannot import {name}: {error}")
        return 77
    if not knows_versions(module):
        print(f"skipped: {name} {module.__version__} is older than DLPack 1.0")
        return 77
    print(f"{name} {module.__version__}")
    library, case = CASES[name]
    Sharing.weir = Weir(sys.argv[1])
    Sharing.library = library(module)
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    if not unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful():
        return 1
    gc.collect()
    Sharing.weir.close()  # after a failure, tracebacks may hold memory of the device
    return 0


if __name__ == "__main__":
    sys.exit(main())
