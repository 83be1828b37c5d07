"""Which variables programs heed."""

from jaxcram.devices import environment


def test_what_could_change_results_is_removed_and_all_else_stays():
    kept = {
        "HOME": "/home/me",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "4",
        "JAX_COMPILATION_CACHE_DIR": "/cache",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_LOGGING_LEVEL": "INFO",
        "JAX_DUMP_IR_TO": "/dump",
        "XLA_FLAGS": "--xla_dump_to=/dump",
    }
    unheeded = {
        "JAX_ENABLE_X64": "1",
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "JAX_THREEFRY_PARTITIONABLE": "0",
        "JAX_DEFAULT_MATMUL_PRECISION": "no such precision",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_TRANSFER_GUARD": "disallow",
        "JAX_DEBUG_NANS": "1",
        "JAX_AN_OPTION_THAT_IS_YET_TO_COME": "1",
    }
    environ = kept | unheeded
    assert environment.heed_only_harmless(environ) == sorted(unheeded)
    assert environ == kept


def test_flags_of_compilers_are_told_without_those_that_change_nothing():
    environ = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_cpu_enable_fast_math=1  --xla_dump_to=/",
        "LIBTPU_INIT_ARGS": "",
        "NVIDIA_TF32_OVERRIDE": "0",
        "PATH": "/bin",
    }
    assert environment.compiler_variables(environ) == {
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=1",
        "NVIDIA_TF32_OVERRIDE": "0",
    }
    assert environment.compiler_variables({"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}) == {}
