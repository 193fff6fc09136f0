/* Clocks as after a suspension. A file contains "SUSPENDED WALL", in seconds: the first number is
 * added to the clocks that go on while a machine sleeps, the second to the wall clock alone. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, time);
    long suspended = 0, wall = 0;
    char text[64] = {0};
    const char *path = getenv("CLOCKS");
    int file;

    if (failed || !path || (clock != CLOCK_BOOTTIME && clock != CLOCK_REALTIME))
        return failed;
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return failed;
    if (read(file, text, sizeof text - 1) > 0)
        sscanf(text, "%ld %ld", &suspended, &wall);
    close(file);
    time->tv_sec += suspended;
    if (clock == CLOCK_REALTIME)
        time->tv_sec += wall;
    return failed;
}
