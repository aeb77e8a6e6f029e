# SPDX-License-Identifier: BSD-2-Clause
# What the library depends on, as dpkg knows it. Asked by CPack itself, it would also put calls of ldconfig
# into scripts, where dpkg has a trigger.
set(folder ${CPACK_PACKAGE_DIRECTORY}/control)
file(WRITE ${folder}/debian/control "Source: cctx\n\nPackage: libcctx0\nArchitecture: any\n")
execute_process(COMMAND dpkg-shlibdeps -O ${CPACK_CCTX_LIBRARY} WORKING_DIRECTORY ${folder} OUTPUT_VARIABLE depends
    ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE "shlibs:Depends=" "" CPACK_DEBIAN_RUNTIME_PACKAGE_DEPENDS "${depends}")
