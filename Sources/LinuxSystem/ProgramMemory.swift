import CLinux

/// What malloc(3) does in this process.
package enum ProgramMemory {
    /// Lets all threads share so many arenas (mallopt(3), M_ARENA_MAX); before there are threads.
    package static func limitArenas(_ count: Int32) {
        _ = smi_limit_arenas(count)
    }
}
