# SPDX-License-Identifier: BSD-2-Clause
# Two Debian packages, which `cpack` makes in a build whose prefix is /usr: libcctx0, the library, and
# libcctx-dev, all that it takes to build with it. Version and date are those of the header and of
# CHANGELOG.md.
set(package_files ${CMAKE_CURRENT_LIST_DIR})
set(revision 1)
set(major ${PROJECT_VERSION_MAJOR})
set(deb_version ${PROJECT_VERSION}-${revision})
set(CCTX_MAINTAINER "The cctx authors <cctx@maintainer.invalid>" CACHE STRING "Who makes the Debian packages")
set(CMAKE_INSTALL_DOCDIR share/doc/libcctx-dev)

# Policy asks of each package what its licence is and what has changed.
file(STRINGS CHANGELOG.md heading REGEX "^## ${PROJECT_VERSION} - " LIMIT_COUNT 1)
string(REGEX REPLACE ".* - " "" released "${heading}")
execute_process(COMMAND date -u -R -d "${released}" OUTPUT_VARIABLE deb_date
    OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
configure_file(${package_files}/changelog.in changelog.Debian @ONLY)
configure_file(CHANGELOG.md changelog COPYONLY)
foreach(component runtime development)
    set(name libcctx${major})
    if(component STREQUAL development)
        set(name libcctx-dev)
    endif()
    install(FILES ${package_files}/copyright ${PROJECT_BINARY_DIR}/changelog ${PROJECT_BINARY_DIR}/changelog.Debian
        DESTINATION share/doc/${name} COMPONENT ${component})
endforeach()

set(CPACK_GENERATOR DEB)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL runtime development)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_NAME cctx)
set(CPACK_PACKAGE_CONTACT ${CCTX_MAINTAINER})
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
    WORLD_READ WORLD_EXECUTE)
set(CPACK_PRE_BUILD_SCRIPTS ${package_files}/finish.cmake)
set(CPACK_PROJECT_CONFIG_FILE ${package_files}/depends.cmake)
set(CPACK_CCTX_LIBRARY ${PROJECT_BINARY_DIR}/libcctx.so.${PROJECT_VERSION})

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE ${revision})
set(CPACK_DEBIAN_PACKAGE_SOURCE cctx)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_MULTIARCH same)
if(CMAKE_VERSION VERSION_LESS 3.31)
    # CPack has no such field yet; it writes the value of this one as it is.
    string(APPEND CPACK_DEBIAN_PACKAGE_SOURCE "\nMulti-Arch: same")
endif()

set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME libcctx${major})
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
set(about "cctx is Go's context package for C: a tree of contexts that carries
cancellation, deadlines and request-scoped values across threads and API
boundaries. The tree is lock-free.
.")
set(CPACK_DEBIAN_RUNTIME_DESCRIPTION "cancellation, deadlines and values for C programs
${about}
This package has the shared library.")

# What a program that is linked with the library depends on: the release with all names that this one exports.
file(READ src/cctx.map map)
string(REGEX MATCH "CCTX_[0-9]+" node "${map}")
string(REGEX MATCHALL "\n    cctx_[a-z_0-9]+" names "${map}")
list(TRANSFORM names REPLACE "\n    (.*)" " \\1@${node} ${PROJECT_VERSION}")
list(JOIN names "\n" names)
file(WRITE ${PROJECT_BINARY_DIR}/control/symbols
    "libcctx.so.${major} libcctx${major} #MINVER#\n ${node}@${node} ${PROJECT_VERSION}\n${names}\n")
file(WRITE ${PROJECT_BINARY_DIR}/control/shlibs "libcctx ${major} libcctx${major} (>= ${PROJECT_VERSION})\n")
file(WRITE ${PROJECT_BINARY_DIR}/control/triggers "activate-noawait ldconfig\n")
foreach(file symbols shlibs triggers)
    list(APPEND CPACK_DEBIAN_RUNTIME_PACKAGE_CONTROL_EXTRA ${PROJECT_BINARY_DIR}/control/${file})
endforeach()
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libcctx-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "libcctx${major} (= ${deb_version}), libc6-dev | libc-dev")
set(CPACK_DEBIAN_DEVELOPMENT_DESCRIPTION "cancellation, deadlines and values for C programs - development
${about}
This package has the headers, the static library, the files for CMake and
pkg-config, the manual pages and the same pages as HTML.")
include(CPack)
