"""Which environment variables programs accept."""

from jaxcram.devices import environment


def test_only_jax_variables_that_could_change_results_are_removed():
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
    unsafe = {
        "JAX_ENABLE_X64": "1",
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "JAX_THREEFRY_PARTITIONABLE": "0",
        "JAX_DEFAULT_MATMUL_PRECISION": "no such precision",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_TRANSFER_GUARD": "disallow",
        "JAX_DEBUG_NANS": "1",
        "JAX_AN_OPTION_THAT_IS_YET_TO_COME": "1",
    }
    environ = kept | unsafe
    assert environment.remove_unsafe_variables(environ) == sorted(unsafe)
    assert environ == kept


def test_compiler_flags_are_recorded_without_the_harmless_ones():
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
