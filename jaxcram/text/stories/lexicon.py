"""The words of the stories, kept together with what goes with them.

Each table is a list of rows; a row is one person, thing, animal or place, and its columns are templates
(see `grammar`) that are expanded once per story, so that a brass compass stays brass to the end.
Rows and alternatives stand in order of likelihood.
"""

# ruff: noqa: E501

GIRLS = (
    "Mara Lily Nora Ada Ivy Rosa Clara Hazel Mina Tess Ruby Wren Elsie June Poppy Greta Maya Flora Dora Alice Nell Pearl "
    "Sofia Zara Etta Lena Amina Olive Iris Hana Bess Marta Cora Willa Suki Faye Thea Ingrid Opal Yara Freya Sana"
)
BOYS = (
    "Tom Ben Leo Otis Finn Jonas Sam Theo Hugo Milo Arthur Eli Jack Oscar Ravi Nico Felix Peter Amos Ned Kofi Walter Emil "
    "Rufus Toby Henrik Silas Bruno Jasper Omar Pavel Ezra Luca Simon Basil Dan Kenji Albert Gus Ivo Rollo Caleb"
)

KIN_WOMEN = "grandmother aunt mother sister godmother"
KIN_MEN = "grandfather uncle father brother godfather"

SURNAMES = (
    "Finch Plum Harrow Bell Otter Marsh Pike Tansy Crumb Barlow Quill Moss Hobbs Thorne Pepper Fennel Larkin Button "
    "Wick Sparrow Dunn Mallow Pruitt Oakes Bramble"
)

# A grown-up of the village: trade, where they work, what they make (plural or mass), what they were doing.
TRADES = """
baker | bakery | {bread|buns|rye loaves} | {dusting flour from a long table|sliding loaves from the oven|kneading dough}
gardener | garden gate | {seedlings|roses|young cabbages} | {pruning the roses|raking leaves|watering the beans}
carpenter | workshop | {chairs|shelves|wooden toys} | {planing a plank|sanding a stool|sweeping up shavings}
fisher | jetty | {fish|herring|crab pots} | {mending a net|coiling a rope|sorting the catch}
teacher | schoolhouse | {lessons|spelling cards|maps} | {wiping the blackboard|sharpening pencils|ringing the bell}
clockmaker | clock shop | {clocks|tiny gears|brass springs} | {winding a tall clock|polishing a tiny gear|oiling a spring}
shepherd | sheepfold | {wool|sheep|cheese} | {counting the sheep|shearing a ram|whistling to the dog}
tailor | tailor's shop | {coats|waistcoats|buttons} | {threading a needle|cutting blue cloth|stitching a sleeve}
miller | mill | {flour|oats|sacks of grain} | {tying up sacks|greasing the wheel|sweeping the floor}
potter | pottery | {pots|jugs|clay bowls} | {turning a bowl|glazing a jug|stoking the kiln}
blacksmith | forge | {horseshoes|iron gates|hinges} | {hammering a horseshoe|pumping the bellows|cooling iron in a bucket}
librarian | library | {books|old maps|storybooks} | {stamping cards|dusting a shelf|mending a torn page}
cobbler | cobbler's bench | {boots|laces|slippers} | {stitching a boot|hammering a heel|rubbing polish into leather}
beekeeper | row of hives | {honey|candles|wax} | {pouring honey|checking a hive|filling jars}
mail carrier | post office | {letters|parcels|stamps} | {sorting letters|tying up a parcel|pumping a bicycle tire}
weaver | loom | {rugs|blankets|ribbon} | {winding yarn|knotting a fringe|dyeing wool}
doctor | surgery | {bandages|bottles|pills} | {rolling bandages|washing a spoon|reading a thick book}
cook | inn kitchen | {soup|pies|stew} | {stirring soup|peeling onions|rolling pastry}
painter | studio | {pictures|signs|paint} | {mixing green paint|cleaning a brush|sketching a boat}
ferry keeper | ferry landing | {ropes|oars|tickets} | {bailing out the boat|tarring the hull|resting on an oar}
"""

# thing, material or color, use (base), used (past), how it is used, where it was kept, sound or look
THINGS = """
kite | {red|yellow|paper|silk|striped} | fly | flew | {over the hill|above the roofs|on windy days} | {on a hook by the door|under the bed} | fluttered
lantern | {tin|copper|green|brass|little} | light | lit | {at dusk|on dark evenings|before supper} | {on the porch|by the back door} | glowed
whistle | {silver|tin|wooden|brass} | blow | blew | {every morning|to call the dog|at the gate} | {on a string|in a coat pocket} | gleamed
compass | {brass|silver|pocket|golden} | carry | carried | {on long walks|everywhere|into the woods} | {in a leather case|in a small box} | gleamed
key | {iron|brass|rusty|silver|copper} | wear | wore | {on a ribbon|around the neck|on a chain} | {on a nail|under a flowerpot} | glinted
music box | {painted|silver|round|rosewood} | play | played | {at bedtime|on rainy days|after supper} | {on the windowsill|by the bed} | tinkled
scarf | {woolen|red|striped|blue|knitted} | wear | wore | {to school|in the snow|all winter} | {on a peg|over a chair} | fluttered
umbrella | {yellow|black|spotted|green} | open | opened | {in every shower|at the first drop|even indoors} | {in the hall|behind the door} | dripped
flute | {wooden|bamboo|silver|reed} | play | played | {by the window|to the birds|after lessons} | {in a cloth bag|on the top shelf} | shone
drum | {red|tin|painted|toy} | beat | beat | {at the fair|in the yard|far too early} | {under the stairs|on the shelf} | rattled
boat | {toy|blue|wooden|white|carved} | sail | sailed | {on the pond|in the puddles|down the stream} | {by the bath|on the sill} | bobbed
marble | {green|glass|blue|cloudy|speckled} | roll | rolled | {along the floor|down the steps|in the dust} | {in a sock|in a tin} | gleamed
watch | {silver|gold|pocket|broken} | wind | wound | {each night|at breakfast|very carefully} | {in a drawer|on a chain} | ticked
teapot | {blue|china|copper|cracked|brown} | polish | polished | {on Sundays|for visitors|with a soft rag} | {on the dresser|by the stove} | gleamed
bell | {brass|silver|little|copper} | ring | rang | {at noon|for supper|at the gate} | {above the door|on a shelf} | jingled
book | {leather|red|thick|tattered|green} | read | read | {by candlelight|in the hayloft|every evening} | {beside the bed|on the shelf} | {lay open|smelled of dust}
map | {folded|old|hand-drawn|torn} | study | studied | {by lamplight|at the table|for hours} | {in a drawer|in a tube} | {crackled|rustled}
doll | {rag|china|wooden|knitted} | carry | carried | {everywhere|to the shops|up to bed} | {on the pillow|in a cradle} | {smiled|stared}
hat | {straw|felt|blue|feathered} | wear | wore | {in the sun|to market|on Sundays} | {on a peg|in a round box} | {tilted|shone}
button | {pearl|brass|blue|golden} | polish | polished | {with a sleeve|at night|for luck} | {in a matchbox|in a jar} | gleamed
shell | {pink|striped|spiral|white} | hold | held | {to one ear|up to the light|at bedtime} | {on the sill|in a jar} | {gleamed|shone}
ball | {red|rubber|leather|striped} | bounce | bounced | {against the wall|down the lane|all afternoon} | {in a net|under the bench} | rolled
locket | {silver|gold|oval|tiny} | open | opened | {before sleep|every birthday|in secret} | {in a velvet box|under the pillow} | glinted
quilt | {patchwork|blue|faded|warm} | spread | spread | {over the bed|on the grass|by the fire} | {in a chest|on the bed} | {rustled|smelled of lavender}
telescope | {brass|long|folding|dented} | point | pointed | {at the moon|out of the window|at the ships} | {on a stand|in the attic} | gleamed
fiddle | {old|small|varnished|walnut} | play | played | {at weddings|on the step|by the fire} | {in a black case|on the wall} | {hummed|shone}
spinning top | {red|wooden|painted|tin} | spin | spun | {on the table|across the tiles|after lunch} | {in a toy box|on the shelf} | {whirled|hummed}
paintbrush | {long|soft|fine|wooden} | dip | dipped | {in blue paint|with great care|every day} | {in a jar|in a tin cup} | dripped
notebook | {green|blue|tiny|spiral} | fill | filled | {with drawings|with secrets|with rhymes} | {under the mattress|in a satchel} | {lay open|rustled}
coin | {silver|gold|copper|foreign} | toss | tossed | {for luck|before every game|in the air} | {in a purse|in one shoe} | glinted
bracelet | {silver|beaded|shell|woven} | wear | wore | {on feast days|to parties|every summer} | {in a dish|in a carved box} | jingled
feather | {blue|long|speckled|white} | wear | wore | {in a cap|behind one ear|for luck} | {in a book|in a bottle} | fluttered
puppet | {wooden|painted|sock|string} | work | worked | {behind a curtain|for the little ones|at parties} | {on a hook|in a trunk} | {bowed|jiggled}
basket | {willow|round|straw|deep} | carry | carried | {to market|through the orchard|on picnics} | {in the pantry|under the table} | creaked
lamp | {oil|green|brass|reading} | light | lit | {every evening|for company|in the attic} | {on the desk|by the window} | glowed
sled | {wooden|red|long|old} | ride | rode | {down the hill|over the snow|until dark} | {in the barn|against the wall} | {creaked|shone}
"""

# animal, look, sound, food, gait, home, a habit
ANIMALS = """
cat | {gray|black|striped|ginger|thin} | {meowed|purred} | {fish|cream|milk} | {padded|crept|slipped} | {the windowsill|the barn} | {washing its paws|chasing shadows}
dog | {brown|shaggy|spotted|old} | {barked|whined} | {bones|bread crusts|sausage} | {trotted|bounded|limped} | {the kennel|the porch} | {wagging its tail|chewing old boots}
kitten | {white|tiny|gray|fluffy} | {mewed|purred} | {milk|cream} | {tumbled|crept|scampered} | {a basket|the hayloft} | {playing with string|sleeping in boots}
puppy | {golden|brown|clumsy|spotted} | {yapped|whimpered} | {biscuits|scraps} | {bounced|tumbled|scampered} | {a box of straw|the porch} | {biting laces|digging holes}
goat | {white|bearded|stubborn|brown} | bleated | {carrots|hay|thistles} | {trotted|skipped|clattered} | {the shed|the meadow} | {eating hats|climbing walls}
hen | {speckled|brown|fat|red} | {clucked|squawked} | {corn|seeds|crumbs} | {strutted|waddled|flapped} | {the coop|the yard} | {scratching in the dust|hiding eggs}
duck | {white|green-headed|plump|muddy} | quacked | {bread|barley|snails} | {waddled|paddled|flapped} | {the pond|the reeds} | {diving for weeds|splashing everyone}
pony | {gray|chestnut|shaggy|small} | {neighed|snorted} | {apples|oats|sugar} | {trotted|cantered|plodded} | {the stable|the paddock} | {swishing its tail|nudging pockets}
fox | {red|young|thin|clever} | {yelped|barked} | {berries|cheese|eggs} | {slipped|trotted|crept} | {a den under the roots|the thicket} | {sniffing the wind|watching the hens}
owl | {brown|barn|white|sleepy} | {hooted|blinked} | {crumbs|beetles} | {glided|swooped|hopped} | {the hollow oak|the bell tower} | {turning its head|staring at the moon}
hedgehog | {small|prickly|brown|shy} | {snuffled|squeaked} | {worms|apples|beetles} | {shuffled|waddled|crept} | {a heap of leaves|the hedge} | {rolling into a ball|rustling in the leaves}
rabbit | {white|brown|young|soft} | {squeaked|snuffled} | {clover|carrots|lettuce} | {hopped|darted|bounded} | {its burrow|the meadow} | {twitching its nose|nibbling the beans}
mouse | {tiny|gray|brown|bold} | squeaked | {cheese|crumbs|oats} | {scurried|darted|crept} | {a hole in the wall|the pantry} | {gnawing cork|stealing crumbs}
crow | {black|glossy|clever|ragged} | {cawed|croaked} | {nuts|crusts|corn} | {hopped|flapped|strutted} | {the tall elm|the chimney} | {stealing spoons|collecting bright things}
sparrow | {brown|small|cheeky|young} | {chirped|twittered} | {crumbs|seeds|millet} | {hopped|fluttered|darted} | {the hedge|the gutter} | {bathing in dust|hopping about the table}
robin | {plump|small|red-breasted|bright} | {sang|chirped} | {worms|crumbs|seeds} | {hopped|fluttered|flew} | {the ivy|the woodpile} | {following the spade|singing at dawn}
squirrel | {red|gray|quick|bushy} | chattered | {nuts|acorns|seeds} | {leaped|scampered|darted} | {the old oak|a hollow tree} | {burying acorns|flicking its tail}
turtle | {green|old|slow|wrinkled} | {blinked|sighed} | {lettuce|strawberries|weeds} | {crawled|plodded|paddled} | {the pond|the reeds} | {sunning itself on a stone|hiding in its shell}
frog | {green|fat|spotted|shiny} | croaked | {flies|gnats} | {hopped|leaped|plopped} | {the well|the lily pond} | {sitting on a leaf|singing in the rain}
donkey | {gray|patient|old|stubborn} | brayed | {carrots|hay|thistles} | {plodded|trotted|ambled} | {the stable|the field} | {leaning on the gate|refusing to move}
lamb | {white|woolly|newborn|black-faced} | {bleated|cried} | {milk|grass|clover} | {skipped|wobbled|trotted} | {the fold|the green hill} | {jumping over nothing|following its mother}
badger | {striped|old|stout|shy} | {grunted|snuffled} | {roots|worms|plums} | {shuffled|trundled|lumbered} | {its sett|the bank} | {digging at dusk|sniffing the ferns}
otter | {sleek|brown|playful|young} | {whistled|chirped} | {fish|crabs} | {slid|dived|rolled} | {the riverbank|the willow roots} | {floating on its back|sliding in the mud}
gull | {white|greedy|gray|noisy} | {screamed|cried} | {fish|chips|crusts} | {swooped|strutted|hovered} | {the harbor wall|the mast} | {stealing lunches|balancing on one leg}
goose | {white|cross|proud|gray} | {honked|hissed} | {grass|barley|corn} | {waddled|marched|flapped} | {the farmyard|the pond} | {guarding the gate|chasing the postman}
calf | {brown|spotted|gentle|newborn} | {mooed|lowed} | {milk|hay|grass} | {wobbled|trotted|ambled} | {the barn|the pasture} | {licking sleeves|butting the pail}
seal | {gray|spotted|round|young} | {barked|snorted} | {fish|herring} | {flopped|dived|rolled} | {the flat rocks|the bay} | {basking in the sun|watching the boats}
parrot | {green|blue|talkative|scarlet} | {screeched|chattered} | {grapes|seeds|nuts} | {flapped|fluttered|climbed} | {a brass perch|the ceiling beam} | {repeating rude words|whistling sea songs}
"""

# The village: what it is, its name, a place in it, the way there, a hiding spot, the ground, the water, a sound
WORLDS = """
fishing village | {Saltby|Gull Bay|Pebble Cove|Anchor Point} | {harbor|beach|lighthouse|pier} | {along the shore|down the cliff path|past the nets} | {under an upturned boat|between two rocks|in a heap of nets} | {wet sand|shingle} | {the sea|the tide} | {waves breaking|gulls calling|ropes creaking}
farming village | {Barley End|Hollow Farm|Clover Hill|Long Acre} | {barn|hayloft|orchard|henhouse} | {across the yard|through the wheat|along the hedge} | {in the hay|under the cart|behind the milk churns} | {mud|stubble} | {the duck pond|the brook} | {cows lowing|a tractor humming|hens clucking}
mountain village | {Highfell|Stonecrag|Larch Pass|Eagle Ridge} | {bridge|meadow|chapel|lookout} | {up the steep path|over the pass|along the ridge} | {beneath a ledge|behind a boulder|in a crack in the rock} | {loose stones|rock} | {the waterfall|the cold stream} | {goat bells ringing|wind in the pines|water rushing}
market town | {Wickham|Bellbridge|Tanner's Cross|Old Fairford} | {square|fountain|clock tower|library} | {down the crooked street|across the square|through the arch} | {behind a barrel|under a stall|in the gutter} | {cobbles|paving stones} | {the canal|the fountain} | {carts rattling|bells chiming|sellers shouting}
forest village | {Oakhurst|Fernley|Deepwood|Mossgrove} | {clearing|mill|sawmill|old oak} | {between the trees|along the mossy track|through the ferns} | {among the roots|inside a hollow log|under a bramble bush} | {pine needles|moss} | {the millpond|the dark pool} | {branches creaking|a woodpecker tapping|leaves whispering}
river town | {Reedham|Willowby|Ferry Bank|Millbrook} | {lock|ferry|boathouse|watermeadow} | {along the towpath|over the footbridge|past the willows} | {in the reeds|under the jetty|beneath a willow} | {soft mud|wet grass} | {the river|the weir} | {oars splashing|frogs croaking|water lapping}
island village | {Puffin Island|Heron Isle|Little Skerry|Driftwood} | {cove|headland|cave|jetty} | {over the dunes|round the headland|along the cliffs} | {in a rock pool|under the driftwood|in the tall grass} | {white sand|black rock} | {the lagoon|the bay} | {surf booming|seals barking|terns crying}
city | {Harrowgate|New Lindon|Castle Quay|Eastmoor} | {park|station|museum|rooftop} | {along the tram line|down the avenue|past the tall houses} | {under a bench|behind the bins|beneath the stairs} | {pavement|asphalt} | {the boating lake|the canal} | {trams clanging|traffic humming|pigeons cooing}
desert village | {Sandwell|Palmyard|Redrock|Amber Oasis} | {well|oasis|bazaar|watchtower} | {across the dunes|past the palms|along the camel track} | {in the sand|beneath a palm|behind a clay jar} | {hot sand|dust} | {the oasis pool|the deep well} | {camels grumbling|palms rustling|sand hissing}
"""

# season, day, sky, wind, detail, warm or cold thing to drink, hour light
SEASONS = """
spring | {fresh|mild|rainy|green} | {the sky was washed clean|soft clouds drifted over|a rainbow hung over the roofs} | {a light breeze|the wet wind} | {primroses|buds|blossoms} | {lemonade|milk} | {pale|silver}
summer | {hot|golden|lazy|bright} | {the sun blazed|not a cloud moved|the air shimmered} | {a warm breeze|the dry wind} | {bees|roses|dragonflies} | {lemonade|cool water} | {golden|yellow}
autumn | {misty|crisp|gray|windy} | {leaves were falling|mist lay low|the clouds hurried} | {a sharp wind|the restless wind} | {red leaves|mushrooms|ripe apples} | {cider|warm milk} | {amber|dim}
winter | {cold|snowy|frosty|still} | {snow was falling|frost covered everything|the sky was like iron} | {an icy wind|the north wind} | {icicles|snowdrifts|footprints} | {cocoa|hot tea} | {blue|thin}
"""

# trait, habit that shows it, its opposite after the story
TRAITS = """
curious | {asked questions all day|peeked behind every door|wanted to know why} | wiser
shy | {hid behind the curtain|spoke in a whisper|blushed easily} | bolder
brave | {climbed the tallest trees|never minded the dark|laughed at thunder} | prouder
stubborn | {never changed plans|argued with the wind|would not take advice} | gentler
dreamy | {watched the clouds|forgot the time|hummed odd tunes} | steadier
careful | {counted everything twice|tied double knots|folded every sock} | freer
cheerful | {sang before breakfast|whistled on the stairs|laughed at rain} | happier
impatient | {hated waiting|ran everywhere|finished other people's sentences} | calmer
clever | {solved riddles|knew the names of stars|could fix anything} | kinder
lonely | {talked to the birds|ate lunch alone|wrote to nobody in particular} | happier
untidy | {lost one sock a day|left crumbs in bed|never combed that hair} | tidier
kind | {shared every sweet|rescued beetles|carried other people's bags} | happier
"""

# cake or dish, what went in, what went wrong, how it was saved
DISHES = """
plum cake | {plums|sugar|ripe plums} | {salt instead of sugar|no eggs at all} | {cream|honey} | oven
apple pie | {apples|cinnamon|butter} | {pepper instead of cinnamon|far too much flour} | {custard|cream} | oven
onion soup | {onions|thyme|butter} | {a whole jar of mustard|sugar instead of salt} | {toast|cheese} | pot
honey loaf | {honey|yeast|flour} | {cold yeast|soap flakes instead of flour} | {jam|butter} | oven
ginger cake | {ginger|treacle|spice} | {garlic instead of ginger|twice the treacle} | {icing|raisins} | oven
berry tart | {berries|pastry|lemon} | {vinegar instead of lemon|no sugar whatsoever} | {syrup|cream} | oven
carrot stew | {carrots|beans|parsley} | {ten hot peppers|a cup of vinegar} | {dumplings|potatoes} | pot
pancake | {eggs|milk|flour} | {sour milk|sand in the flour} | {syrup|sugar} | pan
walnut cake | {walnuts|coffee|butter} | {the shells as well|baking powder by the cupful} | {frosting|pears} | oven
"""

# thing built, what of, with what, where it stood, what it was for
BUILDS = """
treehouse | {planks|old doors} | {hammer and nails|ropes} | in the oak | {keeping watch|reading in peace}
raft | {logs|barrels} | {rope and tar|a mallet} | on the water | {crossing over|fishing trips}
birdhouse | {cedar boards|a fruit crate} | {a saw and glue|a screwdriver} | on a pole | {nesting sparrows|cold birds}
windmill | {canvas and poles|tin sheets} | {pliers and wire|a wrench} | on the roof | {pumping water|grinding corn}
wagon | {wheels and boards|a packing case} | {a wrench|hammer and nails} | in the lane | {carrying pumpkins|racing downhill}
bridge | {stones and beams|fallen trunks} | {a spade and rope|an axe} | over the ditch | {crossing with dry feet|the goats}
puppet theater | {cardboard and cloth|a wardrobe} | {scissors and paste|paint} | in the kitchen | {winter shows|telling stories}
scarecrow | {straw and sticks|sacks and string} | {a needle|pins and buttons} | by the fence | {scaring crows|guarding the beans}
bench | {driftwood|two stumps} | {a chisel|saw and sandpaper} | by the gate | {tired walkers|watching sunsets}
"""

# plant, what it looked like at first, at last
PLANTS = """
sunflower | {a striped seed|a green thread} | {taller than the fence|as round as a plate}
pumpkin | {a flat seed|two leaves} | {as big as a stool|orange as the sunset}
bean | {a curled shoot|a white bean} | {up to the window|heavy with pods}
rose | {a bare twig|a thorny stick} | {red as jam|full of bees}
pear tree | {a crooked stick|a brown pip} | {bent with fruit|taller than the gate}
tomato | {a hairy seedling|a speck of a seed} | {bright as lamps|warm and sweet}
tulip | {a papery bulb|a green point} | {straight as a soldier|yellow as butter}
strawberry | {a weak runner|three small leaves} | {sweet as sugar|red all over}
lavender bush | {a gray sprig|a dry stalk} | {purple and humming|thick with butterflies}
"""

# a fear, where it was met, what it turned out to be
FEARS = """
the dark | the cellar | {a dripping tap|a row of pickle jars} | {a candle|a small lamp}
thunder | the attic | {clouds bumping together|a very loud drum} | {a blanket|a counting rhyme}
deep water | the swimming hole | {cool and friendly|no higher than a chin} | {a cork belt|a long rope}
heights | the bell tower | {a fine view|a nest of chicks} | {a firm hand|slow breaths}
the big dog | the corner house | {a lonely old dog|all bark and tail} | {a biscuit|a soft voice}
strangers | the crowded hall | {people with kind faces|a cousin in a false beard} | {a deep breath|a handshake}
ghosts | the empty mill | {a white owl|a flapping curtain} | {a lantern|a brave song}
spiders | the woodshed | {a tiny weaver|a knot of string} | {a glass and a card|a long broom}
"""

# a quarrel: about what, what each said
QUARRELS = """
a borrowed book | {a torn page|a jam stain}
the last bun | {one bite|the bigger half}
a broken fence | {the loose board|who had leaned on it}
the front seat | {whose turn it was|the better view}
a game of checkers | {a wrong move|a missing piece}
a joke | {an unkind word|who had laughed}
a muddy coat | {a puddle|a careless jump}
a swing | {the first turn|a hard push}
"""
