import Foundation
import Isolation
import LinuxSystem
import Orchestrator

/// The image that the benchmarks launch: busybox and the benchmarks' own program.
enum BenchImage {
    static let name = "bench"
    /// The benchmarks' program (images/bench/workload.c), inside.
    static let program = "/bin/workload"

    /// Builds it from this version's recipe (about a second) and mounts its files for the peers.
    ///
    /// The directory that holds the mount point becomes a mount that passes on what is mounted in it.
    static func prepare(in directory: String, mountPoint: String) async throws {
        let store = try ImageCommand.store()
        let builder = ImageBuilder(store: store, libexec: HostConfiguration.libexec())
        let recipe = try ImageRecipe.find(name)
        try await offload {
            let record = try builder.build(recipe, name: name)
            let file = store.directory + "/" + record.digest.dropFirst("sha256:".count) + ".erofs"
            try Directories.make(directory)
            try Mounts.mount(directory, on: directory, type: "none", flags: UInt(MS_BIND))
            try Mounts.mount("none", on: directory, type: "none", flags: UInt(MS_SHARED))
            try Directories.make(mountPoint)
            try Mounts.mount(file, on: mountPoint, type: "erofs", flags: UInt(MS_RDONLY | MS_NODEV | MS_NOSUID))
        }
    }
}
