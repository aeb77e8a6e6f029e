/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests that start a server of somebody else's have in common: a port, what it says, and its folder's end. */
#ifndef CCTX_TEST_BRIDGE_SERVER_H
#define CCTX_TEST_BRIDGE_SERVER_H

#include "support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* A socket that is bound to a port of the loopback that nobody has just now. */
static inline int port_bound(int *number)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    *number = ntohs(address.sin_port);
    return fd;
}

/* Such a port, which somebody else may take meanwhile. */
static inline int port_free(void)
{
    int number;

    close(port_bound(&number));
    return number;
}

/* Reads what the server says until a line has both texts. False: it has ended without. */
static inline bool await_line(FILE *in, const char *one, const char *other)
{
    char line[512];

    while (fgets(line, sizeof line, in))
        if (strstr(line, one) && strstr(line, other))
            return true;
    return false;
}

static inline int folder_remove(const char *folder)
{
    char command[96];

    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

#endif
