import BackingStore
import Isolation
import Replication

extension CriuInheritance: InheritingProcess {}

/// Has restored processes inherit what was filled before the freeze.
enum InheritedRestore {
    /// Says in the images which mappings they inherit, and to the arrival what is in them.
    ///
    /// Blocks.
    static func prepare(_ arrival: MemoryArrival, images: String) throws {
        InheritancePlan.remove(images: images)
        let spaces = arrival.inheritable
        guard !spaces.isEmpty else { return }
        let regions = spaces.mapValues { space in
            space.regions.map { InheritedRegion(pages: $0.pages, source: $0.source) }
        }
        let inherited = try InheritancePlan.write(regions, images: images) { process, pages in
            spaces[process]?.holdsAny(of: pages) ?? false
        }
        for (process, space) in spaces {
            arrival.inherits(process, intersection(space.held, inherited[process] ?? []))
        }
    }
}
