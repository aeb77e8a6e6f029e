# SPDX-License-Identifier: BSD-2-Clause
# The last hand to what is packed: manual pages and changelogs are compressed, always to the same bytes, and
# what the linker and CPack leave in the libraries of no use to a program is taken out.
file(GLOB_RECURSE files ${CPACK_TEMPORARY_DIRECTORY}/*)
foreach(file ${files})
    if(IS_SYMLINK ${file})
        continue()
    elseif(file MATCHES "/share/man/|/changelog")
        execute_process(COMMAND gzip -9nf ${file} COMMAND_ERROR_IS_FATAL ANY)
    elseif(file MATCHES "\\.a$|\\.so\\.[0-9.]+$")
        execute_process(COMMAND strip --strip-debug --remove-section=.comment --enable-deterministic-archives ${file}
            COMMAND_ERROR_IS_FATAL ANY)
    endif()
endforeach()
